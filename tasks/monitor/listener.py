"""What a job says while it runs, told to people: on the board that the command line shows, and in the Prefect log."""

from __future__ import annotations

import logging
import time
from typing import Any

from prefect import get_run_logger
from prefect.exceptions import MissingContextError

from tasks.monitor.board import Board
from tasks.monitor.prefect_pages import Bar

STEP_SECONDS = 10.0
"""Between two steps of a job that the Prefect log shows; the board shows all."""


class StageListener:
    """The listener of one stage's job. Make it in the stage's task, whose log it writes."""

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
        """One line of the job's metrics."""
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

    def state(self, text: str) -> None:
        """Where the job is: in a queue, on nodes."""
        self._board.note(self._label, text)
        self._log.info(text)

    def line(self, text: str) -> None:
        """A line of the job's log."""
        self._log.info("| %s", text)
