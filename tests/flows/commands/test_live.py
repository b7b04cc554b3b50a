"""The live view: each change of a stage is told once, a running one by its tenths."""

from __future__ import annotations

import io
import re
import threading
import time

import pytest
from rich.console import Console

from flows.commands.live import Log, shown, view
from tasks.monitor.board import Board, Progress


def lines_of(console: Console) -> list[str]:
    """What was printed, without the time each line starts with."""
    assert isinstance(console.file, io.StringIO)
    return [line.split(" ", 1)[1] for line in console.file.getvalue().splitlines()]


@pytest.fixture
def console() -> Console:
    """A file, as in a log."""
    return Console(file=io.StringIO(), width=160, force_terminal=False)


def wait_for_line(console: Console, part: str) -> None:
    deadline = time.monotonic() + 10
    while not any(part in line for line in lines_of(console)):
        assert time.monotonic() < deadline, f"'{part}' was never shown"
        time.sleep(0.02)


def test_a_log_gets_a_line_for_every_change_and_every_tenth(console: Console) -> None:
    board = Board()
    with shown(console) as watch:
        watch(board)
        board.set("teacher", "waiting")
        board.set("data", "cached")
        board.set("teacher", "running")
        for step in range(0, 101, 2):
            board.step("teacher", step, 100, {"train_loss": 2.0 - step / 100})
            if step in (20, 60):
                wait_for_line(console, f"{step}/100")
        board.set("teacher", "done")
    told = lines_of(console)
    assert [line for line in told if line.startswith("data")] == ["data: cached"]
    teacher = [line for line in told if line.startswith("teacher: ")]
    assert len(teacher) == len(set(teacher)) <= 12
    assert any("train_loss 1.800" in line for line in teacher)
    assert teacher[-1].startswith("teacher: done ")
    assert teacher[-1].endswith(" train_loss 1.000")
    assert not any("waiting" in line for line in told)


def test_last_change_is_shown_if_block_ends_at_once(console: Console) -> None:
    board = Board()
    with pytest.raises(RuntimeError), shown(console) as watch:
        watch(board)
        board.set("prune-depth", "running")
        board.set("prune-depth", "failed")
        raise RuntimeError
    assert lines_of(console)[-1] == "prune-depth: failed 0 s"
    assert not [thread for thread in threading.enumerate() if thread.name == "view"]


def test_nothing_to_watch_is_nothing_to_show(console: Console) -> None:
    with shown(console):
        pass
    assert lines_of(console) == []


def test_a_terminal_ends_with_the_last_state_of_every_stage() -> None:
    board, console = Board(), Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    board.set("data", "cached")
    board.set("teacher", "running")
    board.step("teacher", 3, 10, {"val_loss": 1.5, "of no interest": 9.0})
    with shown(console) as watch:
        watch(board)
        board.set("teacher", "done")
    assert isinstance(console.file, io.StringIO)
    last = console.file.getvalue()
    assert "= " in last and "cached" in last
    assert "val_loss 1.500" in last
    assert "of no interest" not in last
    assert re.search(r"total  2/2 stages \(1 cached\), \d s so far", last)


def running(step: int, total: int, seconds: float) -> Progress:
    """A stage that has made `step` of `total` steps in so many seconds."""
    now = time.monotonic()
    return Progress(state="running", step=step, total=total, started=now - seconds, first_step=(0, now - seconds))


def drawn(stages: dict[str, Progress], height: int) -> list[str]:
    """The view of a terminal so high, after two hours."""
    console = Console(file=io.StringIO(), width=120)
    console.print(view(stages, 7200, height))
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def many() -> dict[str, Progress]:
    """A run in the middle; one stage runs since now."""
    return (
        {f"cached-{number}": Progress(state="cached") for number in range(5)}
        | {"teacher": Progress(state="done"), "distill-depth": running(1000, 10_000, 2000)}
        | {f"evaluate-{number}": Progress() for number in range(4)}
    )


def test_all_stages_and_a_total_with_hours_left_are_shown() -> None:
    lines = drawn(many(), 40)
    assert len(lines) == len(many()) + 1
    assert "▸ distill-depth 1000/10000 0.5/s, 5 h 00 min left" in lines
    assert "· evaluate-3 waiting" in lines
    assert lines[-1] == ("total 6/11 stages (5 cached), 1 running, 2 h 00 min so far, 5 h 00 min left in what runs")


@pytest.mark.parametrize(("height", "there"), [(10, "= 5 cached"), (6, "· 4 waiting")])
def test_a_low_terminal_folds_what_needs_no_look(height: int, there: str) -> None:
    lines = drawn(many(), height)
    assert len(lines) < height and there in lines
    assert any("distill-depth" in line for line in lines) and lines[-1].startswith("total 6/11 stages")


def test_a_log_is_never_silent_for_long(console: Console) -> None:
    now = [0.0]
    log = Log(console, lambda: now[0])
    log.follow({})
    stages = {"distill": running(1, 1000, 100), "evaluate": Progress()}
    log.follow(stages)
    for _ in range(100):  # ten minutes in which no tenth is reached
        now[0] += 6
        log.follow(stages)
    told = lines_of(console)
    assert told[0].startswith("distill: 1/1000") and 19 <= len(told) <= 21
    assert all("left" in line for line in told)


def test_a_log_of_a_start_and_of_waiting_is_not_silent_either(console: Console) -> None:
    now = [0.0]
    log = Log(console, lambda: now[0])
    for stages in ({}, {"data": Progress(state="cached"), "teacher": Progress()}):
        log.follow(stages)
        now[0] += 31
        log.follow(stages)
    assert lines_of(console) == [
        "starting, 31 s so far",
        "data: cached",
        "total: 1/2 stages (1 cached), 1 min so far",
    ]


def test_a_rate_is_told_as_soon_as_two_steps_are_done(console: Console) -> None:
    """A tenth of a long stage can take minutes."""
    log = Log(console)
    for step in (0, 1, 2, 3):
        log.follow({"distill": running(step, 1000, 10)})
    told = lines_of(console)
    assert [line.split()[1] for line in told] == ["0/1000", "2/1000"] and "0.2/s" in told[1]


@pytest.mark.parametrize(("height", "folded"), [(14, False), (13, False), (12, True)])
def test_a_view_folds_only_where_it_must(height: int, folded: bool) -> None:
    """Eleven stages, the total and the line of the prompt have thirteen lines."""
    assert ("= 5 cached" in drawn(many(), height)) is folded
