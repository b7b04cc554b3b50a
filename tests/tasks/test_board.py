"""The live view: each change of a stage is told once, a running one by its tenths, and rates and times are those of the
steps."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from flows.commands.live import Log, shown, view
from tasks.launch.tail import LOG_LINES, Tail
from tasks.monitor.board import Board, Progress, State


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


def test_long_log_keeps_newest_lines_and_errors(tmp_path: Path) -> None:
    told: list[str] = []
    with Tail(tmp_path, lambda line: None, told.append):
        lines = ["begin", "[default1]:imbik-error: the reason", *(f"torchrun's own {number}" for number in range(50))]
        (tmp_path / "job.log").write_text("\n".join(lines) + "\n")
    assert told == [lines[1], *lines[-LOG_LINES:]]


def test_a_log_is_read_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, told, followed = [50.0], list[str](), list[dict[str, int]]()
    monkeypatch.setattr("tasks.launch.tail.time.monotonic", lambda: now[0])
    tail = Tail(tmp_path, followed.append, told.append)
    (tmp_path / "job.log").write_text("begin\n  \n 40%|####\nhalf a line")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step"')
    for now[0], expected in ((50.9, []), (51.0, ["begin"]), (51.9, ["begin"]), (52.0, ["begin", "half a line"])):
        tail.read()
        assert told == expected
        if now[0] == 51.0:
            (tmp_path / "job.log").open("a").write("\n")
    assert followed == [{"step": 1}]


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
