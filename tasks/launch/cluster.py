"""Runs the jobs of one flow on a cluster: submits, follows and cancels them, and finds those of a flow that was killed.

The store is all that flow and jobs share: a job's progress and log come through it, and its end is what it wrote there.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from conf.base import StageConfig
from conf.cluster import Cluster
from conf.parallel import Parallel
from conf.secrets import mask_file
from conf.spec import ENDED, Spec
from conf.stages import stages
from tasks.launch import nemo_run as experiment
from tasks.launch import submission
from tasks.launch.backend import SCRIPT_LOG, Backend, JobRequest, JobStatus, SubmitError
from tasks.launch.errors import JobFailed, Stopped, failure
from tasks.launch.forkserver import environment
from tasks.launch.protocol import Follow, JobListener, limits
from tasks.launch.retry import saved
from tasks.launch.submission import Submission
from tasks.launch.tail import Tail

TICK_SECONDS = 0.2
SOFT_SECONDS = 12.0
"""How long a cancelled job may take to save and end before it is killed."""
HARD_SECONDS = 12.0
UNKNOWN_LOOKS = 12
"""How often a cluster may say nothing of a job before it counts as lost: a busy controller or a broken network answers
again."""

ALIVE = JobStatus(phase="running")


class ClusterLauncher:
    """Runs jobs on one cluster, as many at once as it is given: its queue counts what is free."""

    def __init__(self, cluster: Cluster, store: Path, backend: Backend) -> None:
        self.cluster, self.store, self.backend = cluster, store, backend
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._live: dict[str, Path] = {}

    def prepare(self) -> None:
        """Import NeMo-Run while the first stages are looked up."""
        threading.Thread(target=experiment.prepare, args=(self.store,), name="nemo-run", daemon=True).start()

    def run(self, spec: Spec, parallel: Parallel, follow: Follow, begin: Callable[[], None], tell: JobListener) -> None:
        """Run one job to its end, or wait for the one that a killed flow left: `begin` is called when it runs, `follow`
        with every line of its metrics, `tell` with its state and log lines. Raises JobFailed or Stopped."""
        experiment.prepare(self.store)
        job = self._job(spec, parallel)
        known = submission.read(spec.output)
        if not known:
            self.backend.check(job)
        submitted = known.job if known else self.backend.find(job.name)
        if submitted:
            tell.state(
                f"found its job {submitted} on {self.cluster.kind}; waiting for it instead of submitting another"
            )
        else:
            submitted = self._submit(job, spec)
            tell.state(f"submitted as job {submitted} on {self.cluster.kind}")
        if not known:
            step = saved(stages().get(spec.stage, StageConfig), job.output)
            record = Submission(cluster=self.cluster, job=submitted, stage=spec.stage, submitted=time.time(), step=step)
            submission.write(spec.output, record)
        with self._lock:
            self._live[submitted] = job.log
        try:
            seen = self._follow(submitted, job, follow, begin, tell)
        except BaseException:
            self._end({submitted: job.log})  # stopped or broken off: whatever the reason, the job must not outlive it
            submission.forget(spec.output)
            raise
        finally:
            with self._lock:
                self._live.pop(submitted, None)
            mask_file(job.log, os.environ)
        submission.forget(spec.output)
        if seen.phase != "done":
            raise self._failure(spec.stage, job, seen)

    def stop(self) -> None:
        """Submit nothing more and end every job, asking first."""
        self._stopped.set()
        deadline = time.monotonic() + SOFT_SECONDS + HARD_SECONDS + 2
        while time.monotonic() < deadline:  # each is ended by the thread that follows it
            with self._lock:
                if not self._live:
                    break
            time.sleep(TICK_SECONDS)
        with self._lock:
            left = dict(self._live)
        self._end(left)
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
            raise JobFailed(f"{job.stage}: {self.cluster.kind} refused its job: {error}", "never-started") from error

    def _follow(
        self, submitted: str, job: JobRequest, follow: Follow, begin: Callable[[], None], tell: JobListener
    ) -> JobStatus:
        detail, running, unknown, seen = "", False, 0, JobStatus(phase="queued")
        waiting_since, next_look = time.monotonic(), 0.0
        with Tail(job.output, follow, tell.line) as tail:
            while True:
                if self._stopped.is_set():
                    raise Stopped("the run was stopped")
                if time.monotonic() >= next_look:
                    seen = self._look(submitted, job.log, seen)
                    next_look = time.monotonic() + self.backend.poll_seconds
                    unknown = unknown + 1 if seen.phase == "lost" else 0
                    if seen.phase in ("running", "done", "failed") and not running:
                        running = True
                        begin()
                    if seen.detail != detail:
                        detail = seen.detail
                        tell.state(detail)
                    if seen.phase in ("done", "failed") or unknown >= UNKNOWN_LOOKS:
                        break
                    self._patience(submitted, job, seen, time.monotonic() - waiting_since)
                tail.read()
                time.sleep(TICK_SECONDS)
        return seen

    def _look(self, submitted: str, log: Path, before: JobStatus) -> JobStatus:
        """The job's state; as it was before, where the cluster cannot be asked: that is no reason to end a job that may
        well run."""
        try:
            return self.backend.status(submitted, log)
        except Exception as error:  # noqa: BLE001 - every way to a cluster fails with errors of its own
            said = " ".join(str(error).split())[:120] or type(error).__name__
            return JobStatus(
                phase=before.phase, detail=f"{self.cluster.kind} does not answer ({said}); its job may go on meanwhile"
            )

    def _patience(self, submitted: str, job: JobRequest, seen: JobStatus, waited: float) -> None:
        """Raise JobFailed for a job that will not start, or not in the time it has."""
        longest = self.cluster.queue_minutes
        if seen.phase != "queued":
            return
        if seen.cause == "never-started":
            raise JobFailed(
                f"{job.stage}: its job {submitted} can never start: {seen.detail}; change what it asks for",
                "never-started",
            )
        if longest and waited > longest * 60:
            raise JobFailed(
                f"{job.stage}: its job {submitted} did not start in queue_minutes {longest:g}: {seen.detail}; wait"
                " longer or ask for less",
                "never-started",
            )

    def _failure(self, stage: str, job: JobRequest, seen: JobStatus) -> JobFailed:
        """One sentence and the reason: what the cluster did to the job, else what the job says of itself."""
        own, again = failure(stage, 1, job.log), f"run the same command again and it continues (log: {job.log})"
        if not any(path.exists() for path in (job.log, job.output / ENDED, job.output / SCRIPT_LOG)):
            return JobFailed(
                f"{stage}: its job ended ({seen.detail}) and wrote nothing into {self.store}: the nodes do not see that"
                " folder, or could not start it; put the store where they do, and try imbik doctor --cluster",
                "never-started",
            )
        if seen.phase == "lost":
            return JobFailed(f"{stage}: its job is gone ({seen.detail}); {again}", "node")
        if seen.cause == "time" or own.reason == "time":
            detail = own if own.reason == "time" else f"{seen.detail}; log: {job.log}"
            return JobFailed(f"{stage}: its job met its time limit ({detail})", "time")
        if seen.cause == "memory":
            return JobFailed(
                f"{stage}: its job used more memory than it had ({seen.detail}); raise memory_gb (log: {job.log})",
                "memory",
            )
        if seen.cause == "cancelled":
            return JobFailed(f"{stage}: somebody cancelled its job; {again}", "terminated")
        if seen.cause:
            return JobFailed(f"{stage}: its job was ended from outside ({seen.detail}); {again}", seen.cause)
        return own

    def _end(self, jobs: dict[str, Path]) -> None:
        """Cancel jobs and wait until the cluster has ended them."""
        for hard, patience in ((False, SOFT_SECONDS), (True, HARD_SECONDS)):
            for job in jobs:
                with contextlib.suppress(Exception):  # the cluster may be out of reach; it is asked again below
                    self.backend.cancel(job, hard=hard)
            deadline = time.monotonic() + patience
            while jobs and time.monotonic() < deadline:
                jobs = {
                    job: log for job, log in jobs.items() if self._look(job, log, ALIVE).phase in ("queued", "running")
                }
                time.sleep(TICK_SECONDS)
            if not jobs:
                return
