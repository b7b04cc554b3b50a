"""The live view of a run: a line per stage with steps, rate and remaining time, and a total; plain lines, one at least
every 30 seconds, if the output is not a terminal."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows.commands.units import lasting
from tasks.monitor.board import Board, Progress

MARKS = {"waiting": "·", "running": "▸", "cached": "=", "done": "✓", "failed": "✗", "stopped": "■"}
WATCHED = ("train_loss", "train_divergence", "val_loss", "val_kl")
FOLDED = ("cached", "done", "waiting")
"""States that become one line each, in this order, where the terminal is too low for a line per stage."""
SILENCE_SECONDS = 30.0
"""Longest time without a line in a log."""


@contextlib.contextmanager
def shown(console: Console) -> Iterator[Callable[[Board], None]]:
    """Show boards until the end of the block; the yielded function adds one."""
    boards: list[Board] = []
    done = threading.Event()
    follow = _terminal if console.is_terminal else _plain
    thread = threading.Thread(target=follow, args=(console, boards, done), name="view", daemon=True)
    thread.start()
    try:
        yield boards.append
    finally:
        done.set()
        thread.join()


def _terminal(console: Console, boards: list[Board], done: threading.Event) -> None:
    started = time.monotonic()
    with Live(console=console, refresh_per_second=4) as live:
        while not done.wait(0.25):
            live.update(view(_stages(boards), time.monotonic() - started, console.height))
        live.update(view(_stages(boards), time.monotonic() - started, console.height))


def _stages(boards: list[Board]) -> dict[str, Progress]:
    return {label: progress for board in boards for label, progress in board.snapshot().items()}


def view(stages: dict[str, Progress], elapsed: float, height: int) -> Group:
    """All stages and a total after `elapsed` seconds, in at most `height` lines where folding states allows it."""
    if not stages:
        return Group(f"starting, {lasting(elapsed)} so far")
    grid = Table.grid(padding=(0, 2))
    folded: list[str] = []
    for state in FOLDED:
        if sum(progress.state not in folded for progress in stages.values()) + len(folded) + 2 > height:
            folded.append(state)
    for state in folded:
        if count := sum(progress.state == state for progress in stages.values()):
            grid.add_row(MARKS[state], f"{count} {state}")
    for label, progress in stages.items():
        if progress.state not in folded:
            grid.add_row(MARKS[progress.state], label, *_columns(progress))
    return Group(grid, Text(f"total  {total(stages, elapsed)}", no_wrap=True, overflow="ellipsis"))


def total(stages: dict[str, Progress], elapsed: float) -> str:
    """How many stages there are in each state, and the time so far and of the running ones."""
    counts = Counter(progress.state for progress in stages.values())
    ended = counts["done"] + counts["cached"]
    parts = [f"{ended}/{len(stages)} stages ({counts['cached']} cached)"]
    parts += [f"{counts[state]} {state}" for state in ("running", "failed", "stopped") if counts[state]]
    parts.append(f"{lasting(elapsed)} so far")
    left = [progress.seconds_left for progress in stages.values() if progress.state == "running"]
    if known := [seconds for seconds in left if seconds is not None]:
        parts.append(f"{lasting(max(known))} left in what runs")
    return ", ".join(parts)


def _columns(progress: Progress) -> tuple[str, str, str]:
    steps = f"{progress.step}/{progress.total}" if progress.total else ""
    if progress.state != "running":
        took = lasting(progress.ended - progress.started) if progress.ended and progress.started else ""
        return (
            progress.note if progress.state == "waiting" and progress.note else progress.state,
            took,
            _values(progress),
        )
    rate, seconds = progress.rate, progress.seconds_left
    left = f", {lasting(seconds)} left" if seconds is not None else ""
    return steps or progress.note or "starting", f"{_rate(rate)}{left}" if rate else "", _values(progress)


def _rate(rate: float) -> str:
    return f"{rate:.1f}/s" if rate >= 0.1 else f"{lasting(1 / rate)} each"


def _values(progress: Progress) -> str:
    return "  ".join(f"{name} {progress.values[name]:.3f}" for name in WATCHED if name in progress.values)


def _plain(console: Console, boards: list[Board], done: threading.Event) -> None:
    log = Log(console)
    last = False
    while not last:
        last = done.wait(0.5)
        log.follow(_stages(boards))


class Log:
    """Prints a line where a stage changes or a tenth of it is done, and after each silence what is running."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._printed: dict[str, tuple[str, int, bool]] = {}
        self._started = self._spoke = clock()

    def follow(self, stages: dict[str, Progress]) -> None:
        """Print what changed since the last call."""
        for label, progress in stages.items():
            tenth = progress.step * 10 // progress.total if progress.total and progress.state == "running" else -1
            # A tenth of a long stage can take minutes; print its rate as soon as two steps are done.
            timed = progress.rate is not None and progress.paced >= 2
            if self._printed.get(label) != (progress.state, tenth, timed):
                self._printed[label] = (progress.state, tenth, timed)
                if progress.state != "waiting":
                    self._say(label, progress)
        if self._clock() - self._spoke >= SILENCE_SECONDS:
            running = {label: progress for label, progress in stages.items() if progress.state == "running"}
            for label, progress in running.items():
                self._say(label, progress)
            elapsed = self._clock() - self._started
            if not running:
                self._line(f"total: {total(stages, elapsed)}" if stages else f"starting, {lasting(elapsed)} so far")

    def _say(self, label: str, progress: Progress) -> None:
        self._line(f"{label}: {' '.join(part for part in _columns(progress) if part)}")

    def _line(self, text: str) -> None:
        self._spoke = self._clock()
        self._console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False, soft_wrap=True)
