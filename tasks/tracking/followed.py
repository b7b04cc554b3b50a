"""Metrics files of a job, read while it writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.files import NewLines

FOLLOWED = ("metrics.jsonl", "system*.jsonl")
"""Files of a job whose lines are metrics: {"step", "time" in seconds since 1970, "values"}."""


class NewMetrics:
    """What was added to such files since they were read last."""

    def __init__(self) -> None:
        self._files: dict[Path, NewLines] = {}

    def of(self, path: Path) -> list[dict[str, Any]]:
        """The metrics of new lines; of all lines if a resumed job cut some off, none if its folder was sealed
        meanwhile."""
        return [json.loads(line) for line in self._files.setdefault(path, NewLines(path)).read()]
