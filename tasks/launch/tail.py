"""Reads what a job writes while it writes, wherever it runs: the lines of its metrics file and of its log."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conf.secrets import masker
from conf.spec import ERROR_PREFIX

LOG_SECONDS = 1.0
"""Between two looks at a log."""

LOG_LINES = 20
"""The most lines of a log that are handed on at a look: the newest, and those that tell why a job ends. The file has
them all."""

BAR = re.compile(r"\d+%\|")
"""A library's progress bar, which belongs on a terminal; steps are in the metrics."""


class Tail:
    """Hands on the new lines of a job's metrics, and of its log what came last."""

    def __init__(self, output: Path, follow: Callable[[dict[str, Any]], None], line: Callable[[str], None]) -> None:
        self._metrics, self._log = Lines(output / "metrics.jsonl"), Lines(output / "job.log")
        self._follow, self._line, self._mask, self._told = follow, line, masker(os.environ), time.monotonic()

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *error: object) -> None:
        self._told = 0.0
        self.read()

    def read(self) -> None:
        """Hand on what is new."""
        for line in self._metrics.read():
            self._follow(json.loads(line))
        if time.monotonic() - self._told >= LOG_SECONDS:
            self._told = time.monotonic()
            lines = [line for line in self._log.read() if line.strip() and not BAR.search(line)]
            reasons = [
                line for line in lines[:-LOG_LINES] if ERROR_PREFIX in line
            ]  # torchrun's own words are longer than a rank's last
            for line in [*reasons, *lines[-LOG_LINES:]]:
                self._line(self._mask(line))


class Lines:
    """Whole new lines of a growing file that may also shrink and begin again."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, 0

    def read(self) -> list[str]:
        """The lines since the last time."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return []
        if size < self.offset:
            self.offset = 0  # a resumed job forgot the steps after its checkpoint
        if size == self.offset:
            return []
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.decode(errors="replace").splitlines()
