"""Runs jobs on this machine: as a process, under torchrun, or forked from a warm one; follows them and owns their process trees.

It counts cores, so that jobs run side by side where there is room, and reads metrics files; what a job makes it does not know.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from conf.parallel import Parallel
from conf.secrets import mask_file, needed, without
from conf.spec import ENDED, ERROR_PREFIX, EXIT_CODES, Ended, Reason, Spec
from tasks.warm import GRACE_SECONDS, Warm, environment

PLAIN = frozenset({"data", "fetch"})
"""Stages that need no torch: they start at once, while the warm process is still importing."""

Follow = Callable[[dict[str, Any]], None]


Failure = Reason | Literal["preempted", "node", "killed", "never-started"]
"""Why a job failed: its own reason, or what befell it."""


class JobFailed(RuntimeError):
    """A job ended without its result; the message is one sentence for the user."""

    def __init__(self, told: str, reason: Failure = "fault") -> None:
        super().__init__(told)
        self.reason: Failure = reason


class Stopped(RuntimeError):
    """The run is being stopped; no job is started any more."""


@dataclass
class _Cores:
    """Counts cores in use; whoever waits longest goes first, so that a wide job is not starved by narrow ones."""

    total: int

    def __post_init__(self) -> None:
        self._free = self.total
        self._queue: list[object] = []
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, wanted: int, stopped: threading.Event) -> Iterator[None]:
        wanted, ticket = min(wanted, self.total), object()
        with self._changed:
            self._queue.append(ticket)
            while not stopped.is_set() and (self._queue[0] is not ticket or self._free < wanted):
                self._changed.wait(0.5)
            self._queue.remove(ticket)
            self._free -= wanted
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


class Launcher:
    """Runs the jobs of one flow. Open it on a thread that lives as long as the flow: the warm process dies with that thread."""

    def __init__(self, *, warm: bool = True) -> None:
        self._cores = _Cores(os.cpu_count() or 1)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._trees: dict[int, psutil.Process] = {}
        self._warm: Warm | None = None
        self._may_warm = warm and not Path("/dev/nvidiactl").exists()

    def prepare(self) -> None:
        """Start the warm process, if it is of use here; call once, from the thread that opened the launcher."""
        if self._may_warm and self._warm is None:
            self._warm = Warm()

    def run(self, spec: Spec, parallel: Parallel, follow: Follow, begin: Callable[[], None]) -> None:
        """Run one job to its end: `begin` is called when it has its cores, `follow` with every line of its metrics.

        Raises JobFailed or Stopped.
        """
        threads = parallel.threads or max(1, self._cores.total // parallel.processes)
        with self._cores.hold(parallel.processes * threads, self._stopped):
            if self._stopped.is_set():
                raise Stopped("the run was stopped")
            begin()
            output = Path(spec.output)
            path, log = output / "spec.json", output / "job.log"
            path.write_text(spec.model_dump_json(indent=2))
            (output / ENDED).unlink(missing_ok=True)
            try:
                if parallel.processes == 1 and spec.stage not in PLAIN and self._warm and self._warm.ready():
                    code = self._forked(spec, path, log, threads, follow)
                else:
                    code = self._started(spec, path, log, parallel.processes, threads, follow)
            finally:
                mask_file(log, os.environ)
        if code:
            if self._stopped.is_set():
                raise Stopped("the run was stopped")
            raise _failure(spec.stage, code, log)

    def stop(self) -> None:
        """Start nothing more and end every job, asking first."""
        self._stopped.set()
        with self._lock:
            roots = list(self._trees.values())
        end_trees(roots)
        if self._warm:
            self._warm.close()

    def _started(self, spec: Spec, path: Path, log: Path, processes: int, threads: int, follow: Follow) -> int:
        command = [sys.executable, "-m", f"jobs.{spec.stage}", "--spec", str(path)]
        if processes > 1:
            launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
            command = [*launcher, *command[1:]]
        from tasks.guard import guarded

        with log.open("wb") as stream:
            process = subprocess.Popen(
                guarded(command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=without(os.environ) | needed(spec.stage, spec.config, os.environ) | environment(threads),
                cwd=Path(__file__).parents[1],
                start_new_session=True,
            )
        with self._tracked(process.pid), _Tail(Path(spec.output) / "metrics.jsonl", follow) as tail:
            while process.poll() is None:
                tail.read()
                time.sleep(0.05)
            return process.returncode

    def _forked(self, spec: Spec, path: Path, log: Path, threads: int, follow: Follow) -> int:
        assert self._warm is not None
        added = needed(spec.stage, spec.config, os.environ) | environment(threads)
        job = self._warm.submit({"stage": spec.stage, "spec": str(path), "log": str(log), "environment": added})
        with _Tail(Path(spec.output) / "metrics.jsonl", follow) as tail:
            while not job.started.wait(0.05) and not job.ended.is_set():
                pass
            with self._tracked(job.pid):
                while not job.ended.wait(0.05):
                    tail.read()
        return job.code

    @contextlib.contextmanager
    def _tracked(self, pid: int) -> Iterator[None]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            with self._lock:
                self._trees[pid] = process
            if self._stopped.is_set():
                end_trees([process])
        try:
            yield
        except BaseException:
            # The task was cancelled while its job runs: whatever the reason, the job must not outlive it.
            end_trees([self._trees[pid]] if pid in self._trees else [])
            raise
        finally:
            with self._lock:
                self._trees.pop(pid, None)


def end_trees(roots: list[psutil.Process]) -> None:
    """End processes and all their descendants: ranks too, which torchrun puts in sessions of their own."""
    family: list[psutil.Process] = []
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [*root.children(recursive=True), root]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, GRACE_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, GRACE_SECONDS)


class _Tail:
    """Reads whole new lines of a growing metrics file."""

    def __init__(self, path: Path, follow: Follow) -> None:
        self.path, self.follow = path, follow
        self.offset = 0

    def __enter__(self) -> _Tail:
        return self

    def __exit__(self, *error: object) -> None:
        self.read()

    def read(self) -> None:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size < self.offset:
            self.offset = 0  # a resumed job forgot the steps after its checkpoint
        if size == self.offset:
            return
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            self.follow(json.loads(line))


def _failure(stage: str, code: int, log: Path) -> JobFailed:
    """One sentence and the reason: what a rank told of itself, what ended one from outside, else the last that the log says."""
    ended = _ended(log.with_name(ENDED))
    if ended and ended.reason != "terminated":
        return JobFailed(f"{stage}: {ended.sentence}", ended.reason)
    text = log.read_text(errors="replace") if log.exists() else ""
    again = f"run the same command again and it continues (log: {log})"
    if code < 0:
        return JobFailed(f"{stage}: its process was ended by {signal.Signals(-code).name}; {again}", "killed")
    # torchrun's summary. A rank that is killed takes the others down with network errors, which are not the reason.
    for rank, number in re.findall(r"rank\s*: (\d+).*\n\s*exitcode\s*: -(\d+)", text):
        if int(number) != signal.SIGTERM:
            return JobFailed(f"{stage}: rank {rank} was ended by {signal.Signals(int(number)).name}; {again}", "killed")
    if ended:
        return JobFailed(f"{stage}: {ended.sentence}", ended.reason)
    reason: Failure = next((reason for reason, own in EXIT_CODES.items() if own == code), "fault")
    sentences = [line.partition(ERROR_PREFIX)[2] for line in text.splitlines() if ERROR_PREFIX in line]
    if sentences:
        return JobFailed(f"{stage}: {sentences[0]}", reason)
    return JobFailed(f"{stage}: its process exited with {code}; the log is {log}, and the same command continues", reason)


def _ended(path: Path) -> Ended | None:
    try:
        return Ended.model_validate_json(path.read_text())
    except (OSError, ValueError):  # not every end can be told: a full disk, a killed process
        return None
