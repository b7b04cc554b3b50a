"""Jobs on a cluster that is made up: what is submitted, followed, given up and cancelled, and why a job failed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from conf.cluster import Cluster
from conf.parallel import Parallel
from conf.spec import ENDED, Spec
from tasks.launch import cluster as launcher
from tasks.launch import submission
from tasks.launch.backend import SCRIPT_LOG, JobRequest, JobStatus, SubmitError, Unreachable
from tasks.launch.cluster import UNKNOWN_LOOKS, ClusterLauncher
from tasks.launch.errors import JobFailed, Stopped


class Backend:
    """A cluster that gives one answer after the other, and the last one for ever."""

    poll_seconds = 0.0

    def __init__(self, *answers: JobStatus | Exception) -> None:
        self.answers, self.looks = list(answers), 0
        self.queued: str | None = None
        self.submitted: list[JobRequest] = []
        self.checked: list[JobRequest] = []
        self.cancelled: list[bool] = []
        self.refusal: str | None = None

    def check(self, job: JobRequest) -> None:
        self.checked.append(job)

    def submit(self, job: JobRequest) -> str:
        if self.refusal:
            raise SubmitError(self.refusal)
        self.submitted.append(job)
        return "17"

    def find(self, name: str) -> str | None:
        return self.queued

    def status(self, job: str, log: Path) -> JobStatus:
        self.looks += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, job: str, *, hard: bool) -> None:
        self.cancelled.append(hard)
        if hard:
            self.answers = [JobStatus(phase="failed")]

    def close(self) -> None:
        """Nothing is open."""


class Listener:
    def __init__(self) -> None:
        self.states: list[str] = []

    def state(self, text: str) -> None:
        self.states.append(text)

    def line(self, text: str) -> None:
        """Not looked at."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting, and no NeMo-Run."""
    monkeypatch.setattr(launcher, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(launcher.nemo_run, "prepare", lambda store: None)


class Run:
    """One job of a stage on a backend."""

    def __init__(self, store: Path, backend: Backend, **settings: Any) -> None:
        self.backend, self.listener, self.begun = backend, Listener(), 0
        slurm = {"kind": "slurm", "defaults": {"gpus_per_node": 2, "cpus": 12}}
        self.launcher = ClusterLauncher(Cluster.model_validate(slurm | settings), store, backend)
        output = store / "work"
        output.mkdir(exist_ok=True)
        self.spec = Spec(stage="distill", key="k", config={}, output=str(output))
        self.output = output

    def __call__(self, processes: int = 4, threads: int = 0) -> None:
        def begin() -> None:
            self.begun += 1

        parallel = Parallel(processes=processes, **({"threads": threads} if threads else {}))
        self.launcher.run(self.spec, parallel, lambda line: None, begin, self.listener)

    def failed(self) -> JobFailed:
        with pytest.raises(JobFailed) as caught:
            self()
        return caught.value


QUEUED, RUNNING, DONE = (
    JobStatus(phase="queued", detail="queued (no GPU)"),
    JobStatus(phase="running", detail="on n1"),
    JobStatus(phase="done", detail="ended"),
)
LOST = JobStatus(phase="lost", detail="unknown")


def test_a_job_is_submitted_followed_and_forgotten(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(QUEUED, QUEUED, RUNNING, RUNNING, DONE))
    (run.output / "job.log").write_text("of an earlier attempt")
    (run.output / ENDED).write_text("{}")
    run()
    (job,) = run.backend.submitted
    assert (job.nodes, job.ranks, job.environment["OMP_NUM_THREADS"]) == (2, 2, "6"), "12 cores for 2 ranks a node"
    assert run.listener.states == ["submitted as job 17 on slurm", "queued (no GPU)", "on n1", "ended"]
    assert run.begun == 1
    assert Spec.model_validate_json(job.spec.read_text()) == run.spec
    assert not (run.output / ENDED).exists() and not job.log.exists()
    assert submission.read(run.spec.output) is None and run.backend.cancelled == []


@pytest.mark.parametrize(
    ("resources", "threads", "expected"),
    [({"cpus": 7}, 0, "3"), ({"cpus": 1}, 0, "1"), ({}, 0, "1"), ({"cpus": 8}, 5, "5")],
)
def test_threads_of_two_ranks(resources: dict[str, int], threads: int, expected: str, tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(DONE), defaults={"gpus_per_node": 2} | resources)
    run(2, threads)
    assert run.backend.submitted[0].environment["OMP_NUM_THREADS"] == expected


def test_a_job_in_the_queue_is_not_submitted_again(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(DONE))
    run.backend.queued = "9"
    run()
    assert run.backend.submitted == [] and len(run.backend.checked) == 1
    assert run.listener.states[0] == "found its job 9 on slurm and waits for it"


def test_a_job_of_a_killed_flow_is_found_by_its_record(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(DONE))
    record = submission.Submission(cluster=run.launcher.cluster, job="8", stage="distill", submitted=1.0)
    submission.write(run.spec.output, record)
    run()
    assert run.backend.submitted == run.backend.checked == []
    assert run.listener.states[0] == "found its job 8 on slurm and waits for it"


@pytest.mark.parametrize("before", [None, 1.0])
def test_a_running_job_is_on_record_for_the_next_flow(before: float | None, tmp_path: Path) -> None:
    run, found = Run(tmp_path, Backend(DONE)), list[submission.Submission | None]()
    if before:
        record = submission.Submission(cluster=run.launcher.cluster, job="17", stage="distill", submitted=before)
        submission.write(run.spec.output, record)
    else:
        (run.output / "checkpoints" / "step-00000005").mkdir(parents=True)
    run.backend.status = lambda job, log: found.append(submission.read(run.spec.output)) or DONE  # type: ignore[func-returns-value, method-assign]
    began = time.time()
    run()
    (seen,) = found
    assert seen and (seen.job, seen.stage, seen.step) == ("17", "distill", 0 if before else 5)
    assert seen.submitted == before if before else began <= seen.submitted <= time.time()


def test_a_rejected_job_never_started(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(DONE))
    run.backend.refusal = "no such partition"
    error = run.failed()
    assert (str(error), error.reason) == ("distill: slurm rejected its job: no such partition", "never-started")


def test_a_stopped_launcher_submits_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(DONE))
    run.launcher.stop()
    with pytest.raises(Stopped):
        run()
    assert run.backend.submitted == []


def test_a_cluster_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(RUNNING, Unreachable("time  out\n"), Unreachable(), DONE))
    run()
    silent = "slurm does not answer ({}); the job may still be running"
    assert run.listener.states[1:] == ["on n1", silent.format("time out"), silent.format("Unreachable"), "ended"]


def test_a_job_that_is_unknown_once_less_is_not_lost(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(*[LOST] * 11, RUNNING, *[LOST] * 11, DONE))
    run()
    assert run.backend.looks == 24


def test_a_job_that_stays_unknown_is_lost(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(RUNNING, LOST))
    run.backend.status("", Path())  # RUNNING is used up, the log is written later
    (run.output / "job.log").write_text("")
    run.launcher._submit = lambda job, spec: "17"  # type: ignore[method-assign]
    error = run.failed()
    assert UNKNOWN_LOOKS == 12 and run.backend.looks == 1 + 12
    assert error.reason == "node" and str(error).startswith("distill: its job was lost (unknown); run the same")


def test_a_job_that_can_never_start_is_cancelled(tmp_path: Path) -> None:
    never = JobStatus(phase="queued", detail="no such image", cause="never-started")
    run = Run(tmp_path, Backend(never))
    run.backend.cancel = lambda job, hard: run.backend.answers.__setitem__(0, DONE)  # type: ignore[method-assign]
    error = run.failed()
    assert error.reason == "never-started"
    assert str(error) == "distill: its job 17 can never start: no such image; change its resources"
    assert submission.read(run.spec.output) is None and run.launcher._live == {}


@pytest.mark.parametrize(("waited", "given_up"), [(120.0, False), (120.5, True)])
def test_a_queue_is_left_after_queue_minutes(waited: float, given_up: bool, tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(DONE), queue_minutes=2)
    job = run.launcher._job(run.spec, Parallel())
    if given_up:
        with pytest.raises(JobFailed, match=r"did not start within queue_minutes 2: queued \(no GPU\); raise"):
            run.launcher._patience("17", job, QUEUED, waited)
    else:
        run.launcher._patience("17", job, QUEUED, waited)
    run.launcher._patience("17", job, RUNNING, waited)
    Run(tmp_path, Backend(DONE)).launcher._patience("17", job, QUEUED, 1e9)


def test_waiting_counts_from_the_start_of_the_job(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(QUEUED, QUEUED, DONE), queue_minutes=1)
    run()
    assert run.begun == 1


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (JobStatus(phase="failed", detail="d", cause="time"), "time", "reached its time limit (d; log: "),
        (JobStatus(phase="failed", detail="d", cause="memory"), "memory", "ran out of memory (d); raise memory_gb"),
        (JobStatus(phase="failed", detail="d", cause="cancelled"), "terminated", "its job was cancelled; run the same"),
        (JobStatus(phase="failed", detail="d", cause="preempted"), "preempted", "was ended externally (d); run"),
        (JobStatus(phase="failed", detail="d", cause="node"), "node", "was ended externally (d); run"),
        (LOST, "node", "was lost (unknown)"),
        (JobStatus(phase="failed", detail="d"), "fault", "its process exited with 1"),
    ],
)
@pytest.mark.parametrize("trace", ["job.log", SCRIPT_LOG])
def test_why_a_job_failed(status: JobStatus, reason: str, words: str, trace: str, tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(DONE))
    (run.output / trace).write_text("")
    error = run.launcher._failure("distill", run.launcher._job(run.spec, Parallel()), status)
    assert error.reason == reason and words in str(error)


def test_the_jobs_own_time_limit_comes_first(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(DONE))
    (run.output / ENDED).write_text('{"reason": "time", "rank": 0, "sentence": "saved at step 7"}')
    error = run.launcher._failure("distill", run.launcher._job(run.spec, Parallel()), JobStatus(phase="failed"))
    assert error.reason == "time" and "(distill: saved at step 7)" in str(error)


def test_a_job_that_wrote_nothing_could_not_see_the_store(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(JobStatus(phase="failed", detail="exit 1")))
    error = run.failed()
    assert error.reason == "never-started"
    assert f"ended (exit 1) without writing to {tmp_path}" in str(error)


def test_a_job_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "SOFT_SECONDS", 0.02)
    run = Run(tmp_path, Backend(RUNNING))
    run.launcher._end({"17": tmp_path / "job.log"})
    assert run.backend.cancelled == [False, True], "asked first"


def test_a_job_that_ends_when_asked_is_not_killed(tmp_path: Path) -> None:
    run = Run(tmp_path, Backend(QUEUED, RUNNING, DONE))
    run.launcher._end({"17": tmp_path / "job.log"})
    assert run.backend.cancelled == [False] and run.backend.looks == 3
