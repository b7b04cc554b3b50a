"""Follows the metrics file and the log of a running job."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conf.files import NewLines
from conf.secrets import masker
from conf.spec import ERROR_PREFIX

LOG_SECONDS = 1.0
"""Seconds between reads of a log."""

LOG_LINES = 20
"""Maximum log lines per read: the newest, and those with the reason of a failure. The file has all lines."""

BAR = re.compile(r"\d+%\|")
"""Progress bar of a library, which is meant for a terminal; steps are in the metrics."""


class Tail:
    """Passes on new lines of a job's metrics, and the newest lines of its log."""

    def __init__(self, output: Path, follow: Callable[[dict[str, Any]], None], line: Callable[[str], None]) -> None:
        self._metrics, self._log = NewLines(output / "metrics.jsonl"), NewLines(output / "job.log")
        self._follow, self._line, self._mask, self._last_read = follow, line, masker(os.environ), time.monotonic()

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *error: object) -> None:
        self._last_read = 0.0
        self.read()

    def read(self) -> None:
        """Pass on new lines."""
        for metrics in self._metrics.read():
            self._follow(json.loads(metrics))
        if time.monotonic() - self._last_read >= LOG_SECONDS:
            self._last_read = time.monotonic()
            new = (line.decode(errors="replace") for line in self._log.read())
            lines = [line for line in new if line.strip() and not BAR.search(line)]
            reasons = [
                line for line in lines[:-LOG_LINES] if ERROR_PREFIX in line
            ]  # torchrun's summary may push a rank's last line out
            for line in [*reasons, *lines[-LOG_LINES:]]:
                self._line(self._mask(line))
