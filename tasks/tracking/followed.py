"""Metrics files of a job, read while it writes them."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

FOLLOWED = ("metrics.jsonl", "system*.jsonl")
"""Files of a job whose lines are metrics: {"step", "time" in seconds since 1970, "values"}."""


class NewLines:
    """What was added to files since they were read last."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[int, int]] = {}

    def of(self, path: Path) -> list[dict[str, Any]]:
        """Complete new lines; all lines if a resumed job has replaced the file, none if its folder was sealed
        meanwhile."""
        with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            inode, offset = self._read.get(path, (0, 0))
            start = stream.seek(offset if inode == status.st_ino and offset <= status.st_size else 0)
            content = stream.read()
            content = content[: content.rfind(b"\n") + 1]
            self._read[path] = status.st_ino, start + len(content)
            return [json.loads(line) for line in content.splitlines()]
        return []
