"""Runs the jobs of one flow on a cluster: submits, follows and cancels them, and reattaches to jobs of a killed flow.

Flow and jobs share only the store: progress, log and exit of a job are read from there.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from conf.cluster import Cluster
from conf.parallel import Parallel
from conf.secrets import mask_file
from conf.spec import ENDED, Spec
from conf.stages import CURATE, stage_of
from tasks.launch import nemo_run, submission
from tasks.launch.backend import SCRIPT_LOG, Backend, JobRequest, JobStatus, SubmitError
from tasks.launch.errors import JobFailed, Stopped, failure
from tasks.launch.forkserver import environment
from tasks.launch.protocol import Follow, JobListener, limits
from tasks.launch.retry import saved
from tasks.launch.submission import Submission
from tasks.launch.tail import Tail

TICK_SECONDS = 0.2
SOFT_SECONDS = 12.0
"""Time for a cancelled job to save and exit before it is killed."""
HARD_SECONDS = 12.0
UNKNOWN_LOOKS = 12
"""Queries without an answer about a job before it counts as lost: a busy controller or broken network may recover."""

ALIVE = JobStatus(phase="running")


class ClusterLauncher:
    """Runs jobs on one cluster; the cluster's queue limits concurrency."""

    def __init__(self, cluster: Cluster, store: Path, backend: Backend) -> None:
        self.cluster, self.store, self.backend = cluster, store, backend
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._live: dict[str, Path] = {}

    def prepare(self) -> None:
        """Import NeMo-Run in the background."""
        threading.Thread(target=nemo_run.prepare, args=(self.store,), name="nemo-run", daemon=True).start()

    def run(
        self, spec: Spec, parallel: Parallel, follow: Follow, begin: Callable[[], None], listener: JobListener
    ) -> None:
        """Run one job to its end, or wait for one that a killed flow submitted. Calls `begin` when it runs and `follow`
        with each metrics line; `tell` gets its state and log lines. Raises JobFailed or Stopped."""
        nemo_run.prepare(self.store)
        job = self._job(spec, parallel)
        submitted_before = submission.read(spec.output)
        if not submitted_before:
            self.backend.check(job)
        submitted = submitted_before.job if submitted_before else self.backend.find(job.name)
        if submitted:
            listener.state(f"found its job {submitted} on {self.cluster.kind} and waits for it")
        else:
            submitted = self._submit(job, spec)
            listener.state(f"submitted as job {submitted} on {self.cluster.kind}")
        if not submitted_before:
            step = saved(stage_of(spec.stage), job.output)
            record = Submission(cluster=self.cluster, job=submitted, stage=spec.stage, submitted=time.time(), step=step)
            submission.write(spec.output, record)
        with self._lock:
            self._live[submitted] = job.log
        try:
            status = self._follow(submitted, job, follow, begin, listener)
        except BaseException:
            self._end({submitted: job.log})  # stopped or failed: the job must not outlive the flow
            submission.forget(spec.output)
            raise
        finally:
            with self._lock:
                self._live.pop(submitted, None)
            mask_file(job.log, os.environ)
        submission.forget(spec.output)
        if status.phase != "done":
            raise self._failure(spec.stage, job, status)

    def stop(self) -> None:
        """Submit no more jobs and end all running ones, gracefully first."""
        self._stopped.set()
        deadline = time.monotonic() + SOFT_SECONDS + HARD_SECONDS + 2
        while time.monotonic() < deadline:  # each is ended by the thread that follows it
            with self._lock:
                if not self._live:
                    break
            time.sleep(TICK_SECONDS)
        with self._lock:
            remaining = dict(self._live)
        self._end(remaining)
        self.backend.close()

    def _job(self, spec: Spec, parallel: Parallel) -> JobRequest:
        resources = self.cluster.resources(spec.stage)
        nodes, ranks = resources.spread(parallel)
        threads = parallel.threads or max(1, (resources.cpus or ranks) // ranks)
        return JobRequest(
            name=submission.name_of(spec.stage, spec.output),
            stage=spec.stage,
            spec=Path(spec.output) / "spec.json",
            store=self.store,
            resources=resources,
            nodes=nodes,
            ranks=ranks,
            array=int(spec.config["ranks"]) if spec.stage == CURATE else 1,
            environment=environment(threads) | limits(self.cluster, spec.stage),
        )

    def _submit(self, job: JobRequest, spec: Spec) -> str:
        if self._stopped.is_set():
            raise Stopped("the run was stopped")
        job.spec.write_text(spec.model_dump_json(indent=2))
        job.output.joinpath(ENDED).unlink(missing_ok=True)
        job.log.unlink(missing_ok=True)
        try:
            return self.backend.submit(job)
        except SubmitError as error:
            raise JobFailed(f"{job.stage}: {self.cluster.kind} rejected its job: {error}", "never-started") from error

    def _follow(
        self, submitted: str, job: JobRequest, follow: Follow, begin: Callable[[], None], listener: JobListener
    ) -> JobStatus:
        detail, running, unknown, status = "", False, 0, JobStatus(phase="queued")
        waiting_since, next_look = time.monotonic(), 0.0
        with Tail(job.output, follow, listener.line) as tail:
            while True:
                if self._stopped.is_set():
                    raise Stopped("the run was stopped")
                if time.monotonic() >= next_look:
                    status = self._look(submitted, job.log, status)
                    next_look = time.monotonic() + self.backend.poll_seconds
                    unknown = unknown + 1 if status.phase == "lost" else 0
                    if status.phase in ("running", "done", "failed") and not running:
                        running = True
                        begin()
                    if status.detail != detail:
                        detail = status.detail
                        listener.state(detail)
                    if status.phase in ("done", "failed") or unknown >= UNKNOWN_LOOKS:
                        break
                    self._patience(submitted, job, status, time.monotonic() - waiting_since)
                tail.read()
                time.sleep(TICK_SECONDS)
        return status

    def _look(self, submitted: str, log: Path, before: JobStatus) -> JobStatus:
        """The job's state, or the previous one if the cluster does not answer: the job may still run."""
        try:
            return self.backend.status(submitted, log)
        except Exception as error:  # noqa: BLE001 - each kind of connection has its own errors
            message = " ".join(str(error).split())[:120] or type(error).__name__
            return JobStatus(
                phase=before.phase,
                detail=(f"{self.cluster.kind} does not answer ({message}); the job may still be running"),
            )

    def _patience(self, submitted: str, job: JobRequest, status: JobStatus, waited: float) -> None:
        """Raise JobFailed for a job that can never start or has been queued too long."""
        longest = self.cluster.queue_minutes
        if status.phase != "queued":
            return
        if status.cause == "never-started":
            raise JobFailed(
                f"{job.stage}: its job {submitted} can never start: {status.detail}; change its resources",
                "never-started",
            )
        if longest and waited > longest * 60:
            raise JobFailed(
                (
                    f"{job.stage}: its job {submitted} did not start within queue_minutes {longest:g}: {status.detail};"
                    " raise queue_minutes or request fewer resources"
                ),
                "never-started",
            )

    def _failure(self, stage: str, job: JobRequest, status: JobStatus) -> JobFailed:
        """The error of a failed job: the cluster's cause, else the job's own message."""
        error, again = failure(stage, 1, job.log), f"run the same command again to continue (log: {job.log})"
        if not any(path.exists() for path in (job.log, job.output / ENDED, job.output / SCRIPT_LOG)):
            return JobFailed(
                (
                    f"{stage}: its job ended ({status.detail}) without writing to {self.store}, so the nodes cannot see"
                    " the store or could not start the job; check with imbik doctor --cluster"
                ),
                "never-started",
            )
        if status.phase == "lost":
            return JobFailed(f"{stage}: its job was lost ({status.detail}); {again}", "node")
        if status.cause == "time" or error.reason == "time":
            detail = error if error.reason == "time" else f"{status.detail}; log: {job.log}"
            return JobFailed(f"{stage}: its job reached its time limit ({detail})", "time")
        if status.cause == "memory":
            return JobFailed(
                f"{stage}: its job ran out of memory ({status.detail}); raise memory_gb (log: {job.log})",
                "memory",
            )
        if status.cause == "cancelled":
            return JobFailed(f"{stage}: its job was cancelled; {again}", "terminated")
        if status.cause:
            return JobFailed(f"{stage}: its job was ended externally ({status.detail}); {again}", status.cause)
        if job.array > 1 and not (job.output / ENDED).exists():  # none could say why
            return JobFailed(f"{stage}: {status.detail} without a word; {again}", "killed")
        return error

    def _end(self, jobs: dict[str, Path]) -> None:
        """Cancel jobs and wait until they have ended."""
        for hard, patience in ((False, SOFT_SECONDS), (True, HARD_SECONDS)):
            for job in jobs:
                with contextlib.suppress(Exception):  # the cluster may be unreachable; it is queried again below
                    self.backend.cancel(job, hard=hard)
            deadline = time.monotonic() + patience
            while jobs and time.monotonic() < deadline:
                jobs = {
                    job: log for job, log in jobs.items() if self._look(job, log, ALIVE).phase in ("queued", "running")
                }
                time.sleep(TICK_SECONDS)
            if not jobs:
                return
