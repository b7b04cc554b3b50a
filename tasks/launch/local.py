"""Runs jobs on this machine (as a process, under torchrun, or forked from the fork server), follows them and owns their
process trees.

Schedules jobs by cores, and reads metrics files; it does not know what a job produces."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from conf.cluster import LOCAL, Cluster
from conf.parallel import Parallel
from conf.secrets import mask_file, needed, without
from conf.spec import ENDED, Spec
from conf.stages import stage_of
from tasks.launch import gpus
from tasks.launch.errors import Stopped, failure
from tasks.launch.forkserver import GRACE_SECONDS, ForkedJob, Warm, environment, may_warm, take
from tasks.launch.ports import LOOPBACK, free_port
from tasks.launch.protocol import Follow, JobListener, limits
from tasks.launch.tail import Tail

LAST_WORDS_SECONDS = 2.0
TORCHRUN = "torchrun"
"""Folder for torchrun's own files, in the job's folder."""


@dataclass
class _Cores:
    """Semaphore over cores; first come, first served, so that small jobs do not starve a large one."""

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


class LocalLauncher:
    """Runs the jobs of one flow on this machine. Create it on a thread that lives as long as the flow, because the fork
    server dies with that thread."""

    def __init__(self, cluster: Cluster = LOCAL, *, warm: bool = True) -> None:
        self.cluster = cluster
        self._cores = _Cores(os.cpu_count() or 1)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._trees: dict[int, psutil.Process] = {}
        self._warm: Warm | None = None
        self._may_warm = warm and may_warm()

    def prepare(self) -> None:
        """Start the fork server if it can be used; call once, from the thread that created the launcher."""
        if self._may_warm and self._warm is None:
            self._warm = take()

    def run(
        self, spec: Spec, parallel: Parallel, follow: Follow, begin: Callable[[], None], listener: JobListener
    ) -> None:
        """Run one job to its end. Calls `begin` when it has its cores and `follow` with each metrics line; `tell` gets
        its log lines.

        Raises JobFailed or Stopped.
        """
        threads = parallel.threads or max(1, self._cores.total // parallel.processes)
        kind = stage_of(spec.stage)
        wanted = parallel.processes if kind.device == "gpu" else 0
        with self._cores.hold(parallel.processes * threads, self._stopped), gpus.hold(wanted, self._stopped) as devices:
            if self._stopped.is_set():
                raise Stopped("the run was stopped")
            begin()
            output, tail = Path(spec.output), Tail(Path(spec.output), follow, listener.line)
            path, log = output / "spec.json", output / "job.log"
            variables = (
                needed(kind.reads_hub, spec.config, os.environ)
                | environment(threads)
                | limits(self.cluster, spec.stage)
            )
            variables |= {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}
            path.write_text(spec.model_dump_json(indent=2))
            for stale in (output / ENDED, log):
                stale.unlink(missing_ok=True)
            try:
                if kind.device != "light" and self._warm and self._warm.ready():
                    code, rank = self._forked(spec, path, log, parallel.processes, variables, tail)
                else:
                    code, rank = self._started(spec, path, log, parallel.processes, variables, tail), None
            finally:
                mask_file(log, os.environ)
        if code:
            if self._stopped.is_set():
                raise Stopped("the run was stopped")
            raise failure(spec.stage, code, log, rank)

    def stop(self) -> None:
        """Start no more jobs and end all running ones, gracefully first."""
        self._stopped.set()
        with self._lock:
            roots = list(self._trees.values())
        end_trees(roots)
        if self._warm:
            self._warm.close()

    def _started(self, spec: Spec, path: Path, log: Path, processes: int, variables: dict[str, str], tail: Tail) -> int:
        command = [sys.executable, "-m", f"jobs.{spec.stage}", "--spec", str(path)]
        if processes > 1:
            launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
            launcher += ["--log-dir", str(path.parent / TORCHRUN)]  # otherwise it leaves a folder in /tmp for every job
            command = [*launcher, *command[1:]]
        from tasks.launch.guard import guarded

        with log.open("wb") as stream:
            process = subprocess.Popen(
                guarded(command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=without(os.environ) | variables,
                cwd=Path(__file__).parents[2],
                start_new_session=True,
            )
        with self._tracked(process.pid), tail:
            while process.poll() is None:
                tail.read()
                time.sleep(0.05)
            return process.returncode

    def _forked(
        self, spec: Spec, path: Path, log: Path, processes: int, variables: dict[str, str], tail: Tail
    ) -> tuple[int, int | None]:
        """Run a job's ranks as forks of the fork server; returns the exit code and the rank that failed first. Sets
        torchrun's variables itself, because starting torchrun takes as long as many steps of a small model."""
        assert self._warm is not None
        request = {"stage": spec.stage, "spec": str(path), "log": str(log)}
        jobs = [
            self._warm.submit(request | {"environment": variables | rank_variables})
            for rank_variables in _ranks(processes)
        ]
        with tail, contextlib.ExitStack() as tracked:
            for job in jobs:
                while not job.started.wait(0.05) and not job.ended.is_set():
                    pass
                tracked.enter_context(self._tracked(job.pid))
            while True:
                ended = all(job.ended.wait(0.05) for job in jobs)
                if any(job.ended.is_set() and job.code for job in jobs):
                    return self._failed(jobs)
                if ended:
                    return 0, None
                tail.read()

    def _failed(self, jobs: list[ForkedJob]) -> tuple[int, int | None]:
        """Handle a failed rank: give the others a moment to report, then end them. Returns the exit code and rank (None
        if it is the only one) to report; a killed rank comes first, because it causes errors in the others."""
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        for job in jobs:
            job.ended.wait(max(0.0, deadline - time.monotonic()))
        codes = {rank: job.code for rank, job in enumerate(jobs) if job.ended.is_set() and job.code}
        with self._lock:
            remaining = [self._trees[job.pid] for job in jobs if not job.ended.is_set() and job.pid in self._trees]
        end_trees(remaining)
        rank = min(codes, key=lambda rank: (codes[rank] >= 0, -codes[rank]))
        return codes[rank], rank if len(jobs) > 1 else None

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
            # The task was cancelled while its job runs; the job must not outlive it.
            end_trees([self._trees[pid]] if pid in self._trees else [])
            raise
        finally:
            with self._lock:
                self._trees.pop(pid, None)


def _ranks(processes: int) -> list[dict[str, str]]:
    """Torchrun's environment variables for each rank; empty for a single rank."""
    if processes == 1:
        return [{}]
    shared = {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(free_port()), "TORCHELASTIC_RUN_ID": uuid.uuid4().hex}
    sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    return [shared | sizes | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def end_trees(roots: list[psutil.Process]) -> None:
    """End processes and all their descendants, including ranks, which torchrun starts in separate sessions."""
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
