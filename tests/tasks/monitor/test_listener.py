"""What a job's lines become on the board and in the log."""

from __future__ import annotations

import logging

import pytest

from tasks.monitor import listener as module
from tasks.monitor.board import Board
from tasks.monitor.listener import StageListener


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no server shows a bar")

    monkeypatch.setattr("prefect.artifacts.create_progress_artifact", unreachable)
    return found


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.name == "imbik"]
    caplog.clear()
    return found


def test_steps_are_logged_every_ten_seconds(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    board = Board()
    with caplog.at_level(logging.INFO, "imbik"):
        stage = StageListener(board, "distill")
        for second, step in ((0, 1), (9.9, 2), (10, 3), (19.9, 4), (20, 5)):
            clock.now = 100 + second
            stage.follow({"step": step, "total": 9, "values": {"loss": 1.23456, "lr": 1e-4}})
    assert logged(caplog) == [f"step {step}/9  loss 1.235  lr 0.0001" for step in (1, 3, 5)]
    shown = board.snapshot()["distill"]
    assert (shown.step, shown.total, shown.values["loss"]) == (5, 9, 1.23456), "the board has every step"


def test_states_and_lines_are_logged_at_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    board = Board()
    with caplog.at_level(logging.INFO, "imbik"):
        stage = StageListener(board, "data")
        stage.state("in a queue")
        stage.line("50% of it")
        stage.follow({"step": 3, "total": None, "values": {}})
    assert logged(caplog) == ["in a queue", "| 50% of it", "step 3"]
    assert board.snapshot()["data"].note == "in a queue"
