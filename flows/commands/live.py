"""The live view of a run: one line per stage with steps, rate and remaining time; plain lines if the output is not a
terminal."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tasks.monitor.board import Board, Progress

MARKS = {"waiting": "·", "running": "▸", "cached": "=", "done": "✓", "failed": "✗", "stopped": "■"}
WATCHED = ("train_loss", "train_divergence", "val_loss", "val_kl")


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
    with Live(console=console, refresh_per_second=4) as live:
        while not done.wait(0.25):
            live.update(_table(boards))
        live.update(_table(boards))


def _table(boards: list[Board]) -> Table:
    table = Table.grid(padding=(0, 2))
    for board in boards:
        for label, progress in board.snapshot().items():
            table.add_row(MARKS[progress.state], label, *_columns(progress))
    return table if boards else Table.grid()


def _columns(progress: Progress) -> tuple[str, str, str]:
    steps = f"{progress.step}/{progress.total}" if progress.total else ""
    if progress.state != "running":
        took = f"{progress.ended - progress.started:.0f} s" if progress.ended and progress.started else ""
        return (
            progress.note if progress.state == "waiting" and progress.note else progress.state,
            took,
            _values(progress),
        )
    rate = progress.rate
    left = f"{(progress.total - progress.step) / rate:.0f} s left" if rate and progress.total else ""
    return steps or progress.note or "starting", f"{rate:.1f}/s, {left}" if rate else "", _values(progress)


def _values(progress: Progress) -> str:
    return "  ".join(f"{name} {progress.values[name]:.3f}" for name in WATCHED if name in progress.values)


def _plain(console: Console, boards: list[Board], done: threading.Event) -> None:
    printed: dict[str, tuple[str, int, bool]] = {}
    last = False
    while not last:
        last = done.wait(0.5)
        for board in boards:
            for label, progress in board.snapshot().items():
                tenth = progress.step * 10 // progress.total if progress.total and progress.state == "running" else -1
                # A tenth of a long stage can take minutes; print its rate as soon as two steps are done.
                timed = progress.rate is not None and progress.paced >= 2
                if printed.get(label) != (progress.state, tenth, timed):
                    printed[label] = (progress.state, tenth, timed)
                    if progress.state != "waiting":
                        stamp = time.strftime("%H:%M:%S")
                        console.print(
                            f"{stamp} {label}: {' '.join(part for part in _columns(progress) if part)}",
                            markup=False,
                            highlight=False,
                        )
