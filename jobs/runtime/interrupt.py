"""When a job must stop before its end: its time is nearly up, or SIGTERM asks it to.

A loop that can be resumed is run inside `stoppable()` and asks `asked()` at its boundaries; it saves what it has and
raises `Interrupted`. Outside of such loops there is nothing to save: SIGTERM ends the job at once, and so does half of
the margin before the time limit, that the job may say so itself before a scheduler kills it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

from conf.spec import TIME_LIMIT, TIME_MARGIN, TIME_MARGIN_SECONDS

Why = Literal["time", "terminated"]
WHY: tuple[Why | None, ...] = (None, "terminated", "time")
"""By urgency: where ranks were told different things, the last one counts."""


class Interrupted(Exception):
    """The job stops here; what it has done is saved. The message says how far it is."""

    def __init__(self, reason: Why, progress: str) -> None:
        told = {"time": "the time limit is near", "terminated": "it was asked to end"}[reason]
        super().__init__(f"{told}: stopped {progress}; the same command continues from there")
        self.reason: Why = reason


class _Job:
    """What this process knows of its end. Only the monotonic clock is asked: setting the machine's clock changes
    nothing."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.limit, self.margin = 0.0, 0.0
        self.terminated = threading.Event()
        self.loops = 0


_job = _Job()


def start() -> None:
    """The attempt begins now, with the limit that the environment holds. Raises ValueError for one that cannot be
    kept."""
    _job.deadline = None
    _job.terminated.clear()
    limit = seconds(TIME_LIMIT)
    if limit is not None:
        margin = seconds(TIME_MARGIN)
        margin = TIME_MARGIN_SECONDS if margin is None else margin
        if margin >= limit:
            raise ValueError(
                f"{TIME_LIMIT} is {limit:g} s, no longer than the margin {TIME_MARGIN} of {margin:g} s; give it more"
                " time"
            )
        _job.limit, _job.margin = limit, margin
        _job.deadline = time.monotonic() + limit - margin


def seconds(name: str) -> float | None:
    """An environment variable that holds seconds; None where it is not set."""
    text = os.environ.get(name, "")
    try:
        return float(text) if text else None
    except ValueError:
        raise ValueError(f"{name} is '{text}', not a number of seconds") from None


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, SIGTERM waits for the next boundary, where `stop_requested` tells it."""
    _job.loops += 1
    try:
        yield
    finally:
        _job.loops -= 1


def stop_requested(group: Any = None) -> Why | None:
    """At a boundary: whether to stop, and why. Collective over `group` of torch.distributed (None: all ranks), so that
    all ranks stop at the same boundary."""
    late = _job.deadline is not None and time.monotonic() >= _job.deadline
    mine = 2 if late else int(_job.terminated.is_set())
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_initialized() or torch.distributed.get_world_size(group) == 1:
        return WHY[mine]
    told = torch.tensor([mine], device=torch.cuda.current_device())
    torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX, group=group)
    return WHY[int(told.item())]


def raise_if_stopping(progress: str) -> None:
    """At the end of a loop whose ranks work apart: all wait for each other, and where one was to stop all raise
    Interrupted, with how far this one is. Collective."""
    if why := stop_requested():
        raise Interrupted(why, progress)


def enforce_deadline(end: Callable[[str], None]) -> None:
    """From now on `end`, which must not return, is called with one sentence when the time limit is too near for
    anything that is not a `stoppable` loop; such a loop has until the limit itself, since it may be writing what it
    has."""
    if _job.deadline is None:
        return
    limit, near = _job.deadline + _job.margin, _job.deadline + _job.margin / 2

    def wait() -> None:
        time.sleep(max(0.0, near - time.monotonic()))
        if _job.loops:
            time.sleep(max(0.0, limit - time.monotonic()))
        end(f"the time limit of {_job.limit:g} s is near and it is not done")

    threading.Thread(target=wait, name="time-limit", daemon=True).start()


def install_sigterm(end: Callable[[], None]) -> None:
    """From now on SIGTERM is kept for the next boundary of a `stoppable` loop and calls `end`, which must not return,
    anywhere else.

    The signal is taken by a thread: the main one may be deep in a library, waiting for a rank that is gone.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def terminate() -> None:
        _job.terminated.set()
        if not _job.loops:
            end()

    def wait() -> None:
        while received := os.read(reader, 1):
            if received[0] == signal.SIGTERM:
                terminate()

    signal.signal(signal.SIGTERM, lambda *_: terminate())
    threading.Thread(target=wait, name="sigterm", daemon=True).start()
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """A forked child is another's to end: it must not report its own SIGTERM as the job's."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
