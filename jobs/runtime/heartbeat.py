"""Detects a job that hangs: every rank keeps a pulse file, and a process beside rank 0 ends the job when no rank makes
progress.

Inside `monitored()` a loop calls `report_progress()` after each piece of work; a thread writes the count down together
with a pulse of its own. That tells a rank that is stopped or holds Python's lock (no pulse) from one that waits for it
(a pulse, no progress)."""

from __future__ import annotations

import contextlib
import datetime
import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from conf.files import write_whole
from conf.spec import HANG_SECONDS, HANG_SECONDS_DEFAULT
from jobs.runtime.exit import this_rank
from jobs.runtime.interrupt import seconds

FOLDER = "heartbeats"
"""In the job's output while it runs."""


class _Pulse:
    """This rank's file: attempt, pid, start time of that process, host, pulses, progress, and whether progress is
    expected now."""

    def __init__(self, path: Path, period: float) -> None:
        self.path, self.period = path, period
        self.progress, self.expected = 0, True
        self._finished = threading.Event()
        self._pulses = 0
        self._identity = f"{attempt()} {os.getpid()} {started(os.getpid())} {os.uname().nodename}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The loop is over: no progress is expected any more."""
        self._finished.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other ranks are still in it
            self.path.parent.rmdir()

    def _run(self) -> None:
        while not self._finished.wait(self.period):
            self._pulses += 1
            with contextlib.suppress(OSError):  # writers of results report a full disk
                self._write()

    def _write(self) -> None:
        write_whole(self.path, f"{self._identity} {self._pulses} {self.progress} {int(self.expected)}")


_pulse: _Pulse | None = None


def report_progress() -> None:
    """This rank finished a micro-batch, a step or a shard."""
    if _pulse:
        _pulse.progress += 1


@contextlib.contextmanager
def monitored(output: Path) -> Iterator[None]:
    """Inside, the job ends with reason hang when no rank has reported progress for the time allowed."""
    global _pulse
    deadline = deadline_seconds()
    if not deadline:
        yield
        return
    period = min(max(deadline / 8, 0.05), 10.0)
    rank, ranks = this_rank(), int(os.environ.get("WORLD_SIZE", "1"))
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the watchdog asks every rank where it is
    _pulse = _Pulse(output / FOLDER / f"rank-{rank}", period)
    with contextlib.ExitStack() as stack:
        stack.callback(_close)
        if rank == 0:
            stack.enter_context(_watchdog(output, ranks, deadline, period))
        yield


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Inside, this rank may take long without reporting progress."""
    if _pulse:
        _pulse.expected = False
    try:
        yield
    finally:
        if _pulse:
            _pulse.progress += 1
            _pulse.expected = True


def deadline_seconds() -> float:
    """Seconds without progress that count as a hang; 0: never."""
    configured = seconds(HANG_SECONDS)
    return HANG_SECONDS_DEFAULT if configured is None else configured


def collective_timeout() -> datetime.timedelta:
    """How long a rank waits for the others in one operation: longer than detecting a hang takes, so that the report
    names the rank that hangs."""
    return datetime.timedelta(seconds=max(deadline_seconds(), HANG_SECONDS_DEFAULT) * 2)


def started(pid: int) -> str:
    """When a process of this machine started, in the kernel's ticks, since a pid may be reused. Empty where it is
    gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def attempt() -> str:
    """An identifier common to the ranks of one attempt, so that files of an earlier, killed attempt are ignored."""
    if "RANK" not in os.environ:
        return str(os.getpid())
    return "-".join(os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_PORT"))


def _close() -> None:
    global _pulse
    if _pulse:
        _pulse.close()
        _pulse = None


@contextlib.contextmanager
def _watchdog(output: Path, ranks: int, deadline: float, period: float) -> Iterator[None]:
    """A separate process, since no process of the job may be able to run. It ends when this process closes its end of
    the pipe."""
    script = str(Path(__file__).with_name("watchdog.py"))
    command = [sys.executable, "-I", "-S", script, str(output), attempt(), str(ranks), str(deadline), str(period)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
