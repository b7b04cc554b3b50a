"""Notices a job that hangs: every rank keeps a pulse file, and a process beside rank 0 ends the job when no rank gets
on.

Inside `watched()` a loop calls `beat()` whenever it has done something; a thread writes that down, with a pulse of its
own. So a rank that is stopped or holds Python's lock (no pulse) is told from one that waits for it (a pulse, no
progress)."""

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
from jobs.runtime.exit import own_rank
from jobs.runtime.interrupt import seconds

FOLDER = "heartbeats"
"""In the job's output, while it runs."""


class _Pulse:
    """This rank's file: attempt, pid, when that process started, host, pulses, progress, and whether progress is
    expected now."""

    def __init__(self, path: Path, period: float) -> None:
        self.path, self.period = path, period
        self.progress, self.expected = 0, True
        self._over = threading.Event()
        self._pulses = 0
        self._who = f"{attempt()} {os.getpid()} {started(os.getpid())} {os.uname().nodename}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The loop is over: nothing is expected any more."""
        self._over.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other ranks are still in it
            self.path.parent.rmdir()

    def _run(self) -> None:
        while not self._over.wait(self.period):
            self._pulses += 1
            with contextlib.suppress(OSError):  # a full disk is told by whoever has something to lose
                self._write()

    def _write(self) -> None:
        write_whole(self.path, f"{self._who} {self._pulses} {self.progress} {int(self.expected)}")


_pulse: _Pulse | None = None


def report_progress() -> None:
    """This rank got on: a micro-batch, a step, a shard."""
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
    rank, ranks = own_rank(), int(os.environ.get("WORLD_SIZE", "1"))
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the watcher asks every rank where it is
    _pulse = _Pulse(output / FOLDER / f"rank-{rank}", period)
    with contextlib.ExitStack() as stack:
        stack.callback(_close)
        if rank == 0:
            stack.enter_context(_watcher(output, ranks, deadline, period))
        yield


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Inside, this rank does something that may take long without a beat."""
    if _pulse:
        _pulse.expected = False
    try:
        yield
    finally:
        if _pulse:
            _pulse.progress += 1
            _pulse.expected = True


def deadline_seconds() -> float:
    """Seconds without progress that are a hang; 0: never."""
    told = seconds(HANG_SECONDS)
    return HANG_SECONDS_DEFAULT if told is None else told


def collective_timeout() -> datetime.timedelta:
    """How long a rank waits for the others in one operation: longer than a hang takes to be noticed, which then says
    who hangs."""
    return datetime.timedelta(seconds=max(deadline_seconds(), HANG_SECONDS_DEFAULT) * 2)


def started(pid: int) -> str:
    """When a process of this machine started, in the kernel's ticks; a pid may be another process later. Empty: it is
    gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def attempt() -> str:
    """The same on all ranks of one attempt: files of an earlier one, which was killed, are not of this."""
    if "RANK" not in os.environ:
        return str(os.getpid())
    return "-".join(os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_PORT"))


def _close() -> None:
    global _pulse
    if _pulse:
        _pulse.close()
        _pulse = None


@contextlib.contextmanager
def _watcher(output: Path, ranks: int, deadline: float, period: float) -> Iterator[None]:
    """A process, as none of the job's own may be able to run. It ends when this one's end of the pipe does."""
    script = str(Path(__file__).with_name("watchdog.py"))
    command = [sys.executable, "-I", "-S", script, str(output), attempt(), str(ranks), str(deadline), str(period)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
