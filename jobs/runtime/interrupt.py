"""Stops a job before its end: its time is nearly up, or it received SIGTERM.

A resumable loop runs inside `stoppable()` and calls `stop_requested()` at its boundaries; it saves what it has and
raises `Interrupted`. Outside such loops there is nothing to save: SIGTERM ends the job at once, and so does the time
limit half a margin early, so that the job reports it before a scheduler kills it."""

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

StopReason = Literal["time", "terminated"]
BY_URGENCY: tuple[StopReason | None, ...] = (None, "terminated", "time")
"""Where ranks have different reasons, the last of them counts."""


class Interrupted(Exception):
    """The job stops here with its work saved. The message says how far it got."""

    def __init__(self, reason: StopReason, progress: str) -> None:
        description = {"time": "the time limit is near", "terminated": "SIGTERM received"}[reason]
        super().__init__(f"{description}: stopped {progress}; the same command continues from there")
        self.reason: StopReason = reason


class _Stop:
    """What this process knows about when it must stop. Uses the monotonic clock, which setting the machine's clock does
    not change."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.limit, self.margin = 0.0, 0.0
        self.terminated = threading.Event()
        self.loops = 0
        self.progress: Callable[[], str] | None = None


_stop = _Stop()


def start() -> None:
    """Start the attempt with the time limit from the environment. Raises ValueError for a limit that leaves no time to
    work."""
    _stop.deadline = None
    _stop.terminated.clear()
    limit = seconds(TIME_LIMIT)
    if limit is not None:
        margin = seconds(TIME_MARGIN)
        margin = TIME_MARGIN_SECONDS if margin is None else margin
        if margin >= limit:
            raise ValueError(
                f"{TIME_LIMIT} is {limit:g} s, no longer than the margin {TIME_MARGIN} of {margin:g} s; raise the limit"
            )
        _stop.limit, _stop.margin = limit, margin
        _stop.deadline = time.monotonic() + limit - margin


def seconds(name: str) -> float | None:
    """Seconds from an environment variable; None where it is not set. Raises ValueError for anything but a number."""
    text = os.environ.get(name, "")
    try:
        return float(text) if text else None
    except ValueError:
        raise ValueError(f"{name} is '{text}', not a number of seconds") from None


@contextlib.contextmanager
def stoppable(progress: Callable[[], str] | None = None) -> Iterator[None]:
    """Inside, SIGTERM waits for the next boundary, where `stop_requested` reports it. With `progress`, which says how
    far the job got, what takes long between boundaries may call `give_up_if_stopping`."""
    _stop.loops += 1
    _stop.progress = progress
    try:
        yield
    finally:
        _stop.loops -= 1
        _stop.progress = None


def give_up_if_stopping() -> None:
    """In the middle of work that a later attempt does again from its beginning, of a job of one process: raise
    Interrupted if it was to stop. Does nothing where no loop said how far it got."""
    if _stop.progress and (reason := stop_requested()):
        raise Interrupted(reason, _stop.progress())


def stop_requested(group: Any = None) -> StopReason | None:
    """The reason to stop at this boundary, or None. Collective over `group` of torch.distributed (None: all ranks), so
    that all ranks stop at the same boundary."""
    late = _stop.deadline is not None and time.monotonic() >= _stop.deadline
    own_urgency = 2 if late else int(_stop.terminated.is_set())
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_initialized() or torch.distributed.get_world_size(group) == 1:
        return BY_URGENCY[own_urgency]
    urgency = torch.tensor([own_urgency], device=torch.cuda.current_device())
    torch.distributed.all_reduce(urgency, op=torch.distributed.ReduceOp.MAX, group=group)
    return BY_URGENCY[int(urgency.item())]


def raise_if_stopping(progress: str) -> None:
    """After a loop whose ranks work independently: wait for all ranks, and raise Interrupted on all of them if any was
    to stop; `progress` says how far this one got. Collective."""
    if reason := stop_requested():
        raise Interrupted(reason, progress)


def enforce_deadline(exit_job: Callable[[str], None]) -> None:
    """Call `exit_job`, which must not return, with one sentence once the time limit is too near for anything but a
    `stoppable` loop; such a loop has until the limit itself, since it may be writing a checkpoint."""
    if _stop.deadline is None:
        return
    limit, near = _stop.deadline + _stop.margin, _stop.deadline + _stop.margin / 2

    def wait() -> None:
        time.sleep(max(0.0, near - time.monotonic()))
        if _stop.loops:
            time.sleep(max(0.0, limit - time.monotonic()))
        exit_job(f"the time limit of {_stop.limit:g} s is near and the job is not finished")

    threading.Thread(target=wait, name="time-limit", daemon=True).start()


def install_sigterm(exit_job: Callable[[], None]) -> None:
    """Keep SIGTERM for the next boundary of a `stoppable` loop; anywhere else it calls `exit_job`, which must not
    return.

    A thread receives the signal: the main thread may be deep in a library, waiting for a rank that is gone."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def terminate() -> None:
        _stop.terminated.set()
        if not _stop.loops:
            exit_job()

    def wait() -> None:
        while received := os.read(reader, 1):
            if received[0] == signal.SIGTERM:
                terminate()

    signal.signal(signal.SIGTERM, lambda *_: terminate())
    threading.Thread(target=wait, name="sigterm", daemon=True).start()
    os.register_at_fork(after_in_child=_restore_default)


def _restore_default() -> None:
    """A forked child belongs to its parent: it must not report its own SIGTERM as the job's."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
