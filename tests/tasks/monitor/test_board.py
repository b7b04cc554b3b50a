"""The board of a run's stages: rates and times are those of the steps, whoever writes."""

from __future__ import annotations

import threading

import pytest

from tasks.monitor.board import Board, Progress, State


def test_rate_needs_two_steps_and_counts_from_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("tasks.monitor.board.time.monotonic", lambda: now)
    board = Board()
    board.set("teacher", "running")
    board.step("teacher", 500, 1000, {})
    assert board.snapshot()["teacher"].rate is None
    now = 110.0
    board.step("teacher", 520, 1000, {"val_loss": 1.0})
    assert board.snapshot()["teacher"].rate == pytest.approx(2.0)
    board.step("teacher", 521, 1000, {"train_loss": 2.0})
    assert board.snapshot()["teacher"].values == {
        "val_loss": 1.0,
        "train_loss": 2.0,
    }, "a value stays until the next of its name"
    board.set("teacher", "done")
    assert board.snapshot()["teacher"].rate is None
    assert (board.snapshot()["teacher"].started, board.snapshot()["teacher"].ended) == (100.0, 110.0)


def test_time_left_is_that_of_the_remaining_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("tasks.monitor.board.time.monotonic", lambda: now)
    board = Board()
    board.step("teacher", 500, 1000, {})
    first = board.snapshot()["teacher"]
    assert (first.state, first.paced, first.seconds_left) == ("running", 0, None)
    now = 110.0
    board.step("teacher", 540, 1000, {})
    later = board.snapshot()["teacher"]
    assert (later.paced, later.rate, later.seconds_left) == (40, 4.0, 115.0)
    board.step("teacher", 540, None, {})
    assert board.snapshot()["teacher"].seconds_left is None
    assert (Progress().paced, Progress().step, Progress().rate) == (0, 0, None)


@pytest.mark.parametrize("state", ["cached", "done", "failed", "stopped"])
def test_what_has_ended_has_a_time_of_its_end(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.monitor.board.time.monotonic", lambda: 7.0)
    board = Board()
    board.set("a", state)
    board.expect("a")
    board.expect("b")
    board.note("b", "on n1")
    ended, waits = board.snapshot()["a"], board.snapshot()["b"]
    assert (ended.state, ended.started, ended.ended) == (state, None, 7.0)
    assert (waits.state, waits.note, waits.started, waits.ended) == ("waiting", "on n1", None, None)


def test_many_threads_lose_nothing() -> None:
    board = Board()
    threads = [
        threading.Thread(
            target=lambda label=label: [board.step(label, step, 200, {str(step % 5): step}) for step in range(201)]
        )
        for label in "abcdefgh"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {label: progress.step for label, progress in board.snapshot().items()} == dict.fromkeys("abcdefgh", 200)
    assert all(
        progress.values == {"0": 200, "1": 196, "2": 197, "3": 198, "4": 199} for progress in board.snapshot().values()
    )
