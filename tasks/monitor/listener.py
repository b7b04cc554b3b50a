"""Reports progress and log lines of a job on the board and in the Prefect log."""

from __future__ import annotations

import logging
import time
from typing import Any

from prefect import get_run_logger
from prefect.exceptions import MissingContextError

from tasks.monitor.board import Board
from tasks.monitor.prefect_pages import Bar

STEP_SECONDS = 10.0
"""Between steps in the Prefect log; the board shows every step."""


class StageListener:
    """Listener of one stage's job. Create it in the stage's task, because it writes to the task's log."""

    def __init__(self, board: Board, label: str) -> None:
        self._board, self._label = board, label
        self._next = 0.0
        self._bar = Bar(label)
        self._log: Any
        try:
            self._log = get_run_logger()
        except MissingContextError:
            self._log = logging.getLogger("imbik")

    def follow(self, line: dict[str, Any]) -> None:
        """Handle one line of the job's metrics."""
        self._board.step(self._label, line["step"], line["total"], line["values"])
        self._bar.move(line["step"], line["total"])
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + STEP_SECONDS
            values = "  ".join(f"{name} {value:.4g}" for name, value in line["values"].items())
            self._log.info(
                "step %s%s%s",
                line["step"],
                f"/{line['total']}" if line["total"] else "",
                f"  {values}" if values else "",
            )

    def ended(self) -> None:
        """The stage has ended, however it did."""
        self._bar.put_away()

    def state(self, text: str) -> None:
        """Report where the job is: in a queue, on nodes."""
        self._board.note(self._label, text)
        self._log.info(text)

    def line(self, text: str) -> None:
        """Report a line of the job's log."""
        self._log.info("| %s", text)
