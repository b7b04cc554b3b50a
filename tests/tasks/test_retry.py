"""Which failures are tried again, how often, and with what: decided by the reason a job ended for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conf.base import StageConfig
from conf.cluster import LOCAL, Cluster, SlurmCluster
from conf.load import load
from conf.stages import stages
from conf.stages.evaluate import EvaluateConfig
from conf.stages.quantize import QuantizeConfig
from conf.stages.teacher import TeacherConfig
from jobs.runtime.entry import Metrics
from tasks.launch import submission
from tasks.launch.errors import Failure, JobFailed
from tasks.launch.retry import NOTES, Attempts, difference, halved, saved
from tasks.launch.submission import Submission
from tests.fixtures.flow import RECIPE

TEACHER = load(str(RECIPE)).teacher
SLURM = Cluster(kind="slurm", slurm=SlurmCluster(), resubmissions=3, retries=1)


class Job:
    """A job that ends as it is told to: (reason, the step its newest checkpoint then has) at a time, in the end
    well."""

    def __init__(self, work: Path, *ends: tuple[Failure, int]) -> None:
        self.work, self.ends, self.configs = work, iter(ends), list[StageConfig]()

    def submit(self, config: StageConfig, begin: Callable[[], None]) -> None:
        begin()
        self.configs.append(config)
        if end := next(self.ends, None):
            (self.work / "checkpoints" / f"step-{end[1]:08d}").mkdir(parents=True, exist_ok=True)
            raise JobFailed(f"teacher: it ended at step {end[1]}", end[0])


def made(
    work: Path, cluster: Cluster, *ends: tuple[Failure, int], config: StageConfig = TEACHER, stage: str = "teacher"
) -> tuple[Attempts, Job, list[str]]:
    said: list[str] = []
    attempts, job = (
        Attempts(stages()[stage], work, cluster, lambda number, told: said.append(f"{number} {told}")),
        Job(work, *ends),
    )
    attempts.run(config, job.submit)
    return attempts, job, said


def test_timed_out_job_is_resubmitted_up_to_limit(tmp_path: Path) -> None:
    attempts, _, said = made(tmp_path, SLURM, ("time", 10), ("time", 30), ("time", 60))
    assert [(attempt.reason, attempt.steps) for attempt in attempts.all] == [
        ("time", 10),
        ("time", 20),
        ("time", 30),
        ("done", 0),
    ]
    assert said[1].startswith("3 teacher: it ended at step 30 (time; it gained 20 steps in ")
    assert not (tmp_path / NOTES).exists()
    (tmp_path / "more").mkdir()
    with pytest.raises(JobFailed, match="resubmitted 3 times, the limit of the cluster's resubmissions") as caught:
        made(tmp_path / "more", SLURM, ("time", 10), ("time", 20), ("time", 30), ("time", 40))
    assert caught.value.reason == "time"


def test_a_job_that_a_killed_flow_left_counts_whole(tmp_path: Path) -> None:
    work = tmp_path / "teacher-1"
    (work / "checkpoints" / "step-00000010").mkdir(parents=True)
    submission.write(str(work), Submission(cluster=SLURM, job="7", stage="teacher", submitted=time.time() - 60, step=4))

    def submit(config: StageConfig, begin: Callable[[], None]) -> None:
        begin()
        if submission.read(str(work)):
            submission.forget(str(work))
            raise JobFailed("teacher: its time was up just when it was found", "time")

    attempts = Attempts(stages()["teacher"], work, SLURM, lambda number, told: None)
    attempts.run(TEACHER, submit)
    assert [(attempt.reason, attempt.steps, attempt.seconds >= 60) for attempt in attempts.all] == [
        ("time", 6, True),
        ("done", 0, False),
    ]


def test_time_limit_without_progress_is_not_retried(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="it gained no step in that time; raise the time limit or save more often"):
        made(tmp_path, SLURM, ("time", 10), ("time", 10))


def test_stage_without_resume_reports_short_time_limit(tmp_path: Path) -> None:
    logs_ever_more(tmp_path)
    with pytest.raises(JobFailed, match="evaluate cannot resume, so one attempt must finish within the limit"):
        made(tmp_path, SLURM, ("time", 0), config=EvaluateConfig(), stage="evaluate")
    (tmp_path / "more").mkdir()
    logs_ever_more(tmp_path / "more")
    with pytest.raises(JobFailed, match="2 attempts in a row gained no steps, more than the cluster's retries allow"):
        made(tmp_path / "more", SLURM, ("node", 0), ("node", 0), ("node", 0), config=EvaluateConfig(), stage="evaluate")


def test_training_that_diverged_is_submitted_again(tmp_path: Path) -> None:
    """As often as its job says so: the job counts, and ends as a mistake."""
    attempts, job, said = made(tmp_path, Cluster(), ("diverged", 0), ("diverged", 0), ("diverged", 0))
    assert [attempt.reason for attempt in attempts.all] == ["diverged"] * 3 + ["done"]
    assert said[0] == "2 teacher: it ended at step 0"
    assert job.configs == [TEACHER] * 4


def logs_ever_more(work: Path) -> None:
    """Steps that a job has logged and will do again."""
    (work / "metrics.jsonl").write_text('{"step": 5}\n')


@pytest.mark.parametrize("reason", ["preempted", "node", "hang", "killed"])
def test_what_befalls_a_job_is_tried_again_while_it_gets_on(tmp_path: Path, reason: Failure) -> None:
    attempts, _, _ = made(tmp_path, SLURM, (reason, 10), (reason, 10), (reason, 20))
    assert [attempt.steps for attempt in attempts.all] == [10, 0, 10, 0]
    (tmp_path / "more").mkdir()
    with pytest.raises(JobFailed, match="2 attempts in a row gained no steps, more than the cluster's retries allow"):
        made(tmp_path / "more", SLURM, (reason, 0), (reason, 0))


@pytest.mark.parametrize("reason", ["mistake", "fault", "terminated", "never-started"])
def test_what_would_only_happen_again_is_not_tried(tmp_path: Path, reason: Failure) -> None:
    with pytest.raises(JobFailed, match=r"it ended at step 10$"):
        made(tmp_path, SLURM, (reason, 10))


def test_on_ones_own_machine_a_killed_process_stays_dead(tmp_path: Path) -> None:
    with pytest.raises(JobFailed):
        made(tmp_path, LOCAL, ("killed", 10))


def test_out_of_memory_is_tried_once_more_with_less_in_a_pass(tmp_path: Path) -> None:
    attempts, job, said = made(tmp_path, LOCAL, ("memory", 0))
    first, second = job.configs
    assert isinstance(first, TeacherConfig) and isinstance(second, TeacherConfig)
    assert (first.micro_batch, second.micro_batch, second.global_batch, second.parallel.recompute) == (4, 2, 4, True)
    assert first.identity() == second.identity()
    assert "micro_batch 2 instead of 4 and activation recomputation, same global batch" in said[0]
    assert [attempt.reason for attempt in attempts.all] == ["memory", "done"]
    (tmp_path / "more").mkdir()
    with pytest.raises(JobFailed):
        made(tmp_path / "more", LOCAL, ("memory", 0), ("memory", 0))


def test_stored_logits_count_despite_truncated_last_line(tmp_path: Path) -> None:
    Metrics(tmp_path).log(3, 9, left_out=0.1)
    Metrics(tmp_path).log(4, 9)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "total": 9, "values": {"left_out": 0.1}')
    assert saved(stages()["logits"], tmp_path) == 4
    assert saved(stages()["importance"], tmp_path) == 0, "it begins again"
    Metrics(tmp_path).log(5, 9)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [3, 4, 5]


def test_what_nemo_s_scripts_have_saved_counts(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "logs" / "distill" / "checkpoints"
    for step in (9, 19):
        (folder / f"distill--val_loss=2.30-step={step}-consumed_samples=160.0-last").mkdir(parents=True)
    assert saved(stages()["distill"], tmp_path) == 20


def test_the_shards_that_ranks_have_made_count(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    assert saved(stages()["data"], tmp_path) == 0
    for name in ("000000.counts.json", "000002.counts.json", "000001.texts.jsonl"):
        (tmp_path / "shards" / name).touch()
    assert saved(stages()["data"], tmp_path) == 2


def halves() -> Iterator[tuple[StageConfig, dict[str, object]]]:
    yield TEACHER.model_copy(update={"global_batch": 18, "micro_batch": 9}), {"micro_batch": 3}
    yield TEACHER.model_copy(update={"global_batch": 3, "micro_batch": 3}), {"micro_batch": 1}
    yield QuantizeConfig(format="fp8", batch=5), {"batch": 2}
    two = TEACHER.parallel.model_copy(update={"processes": 2})
    yield TEACHER.model_copy(update={"global_batch": 18, "micro_batch": 9, "parallel": two}), {"micro_batch": 3}


@pytest.mark.parametrize(("config", "expected"), list(halves()))
def test_half_a_pass_still_divides_the_global_batch(config: StageConfig, expected: dict[str, object]) -> None:
    less = halved(config)
    assert less and {name: getattr(less, name) for name in expected} == expected
    assert less.identity() == config.identity()


def test_out_of_memory_with_smallest_batch_is_final(tmp_path: Path) -> None:
    smallest = TEACHER.model_copy(
        update={"micro_batch": 1, "parallel": TEACHER.parallel.model_copy(update={"recompute": True})}
    )
    assert halved(smallest) is None
    with pytest.raises(JobFailed):
        made(tmp_path, LOCAL, ("memory", 0), config=smallest)


def test_a_job_that_ends_well_at_once_leaves_no_notes(tmp_path: Path) -> None:
    attempts, _, said = made(tmp_path, LOCAL)
    assert [(attempt.reason, attempt.steps) for attempt in attempts.all] == [("done", 0)]
    assert said == [] and not (tmp_path / NOTES).exists()


def test_a_smaller_pass_of_qad_is_told() -> None:
    brief = {"steps": 1, "seq_length": 8, "lr": 1e-3, "min_lr": 1e-4, "warmup_steps": 0}
    qad = brief | {"micro_batch": 4, "global_batch": 4}
    before = QuantizeConfig.model_validate({"format": "nvfp4", "batch": 1, "qad": qad})
    after = halved(before)
    assert after and difference(before, after) == "qad.micro_batch 2 instead of 4"
    assert difference(before, before) == ""
    larger = before.model_copy(update={"batch": 4})
    assert difference(larger, before) == "batch 1 instead of 4"


def test_attempts_of_an_earlier_command_are_told_too(tmp_path: Path) -> None:
    with pytest.raises(JobFailed):
        made(tmp_path, LOCAL, ("killed", 10))
    attempts, _, _ = made(tmp_path, LOCAL)
    assert [attempt.reason for attempt in attempts.all] == ["killed", "done"]
