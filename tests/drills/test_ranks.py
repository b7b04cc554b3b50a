"""Two ranks under fire: one is killed, one is stopped, one is asked to end. The job ends soon, blames the right one,
and goes on after."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from conf.spec import ENDED, JobExit
from jobs.runtime import checkpoint_folder as checkpoints
from tasks.launch.forkserver import ForkedJob
from tests.fixtures.flow import wait_for
from tests.fixtures.jobs import SHAPE, TRAINING, ranks, start_ranks

pytestmark = pytest.mark.drill
CONFIG = {"shape": SHAPE, **TRAINING, "steps": 200, "validate_every": 100, "checkpoint_every": 20}
CONFIG |= {"micro_batch": 2, "parallel": {"processes": 2, "threads": 1}}


def training(corpus: Path, output: Path, more: dict[str, str]) -> tuple[Path, list[ForkedJob]]:
    """Both ranks in the middle of training, with a checkpoint more than they found; the log of rank 0."""
    before = reached(output)
    (output / ENDED).unlink(missing_ok=True)
    spec, jobs = start_ranks("teacher", CONFIG, {"data": corpus}, output, 2, more)
    wait_for(
        lambda: reached(output) > before or any(job.ended.is_set() for job in jobs), 120, "no checkpoint was written"
    )
    assert not any(job.ended.is_set() for job in jobs)
    return spec.with_name(f"{spec.name}.rank-0.log"), jobs


def reached(output: Path) -> int:
    return max(
        (int(path.name.removeprefix("step-")) for path in checkpoints.existing(output / "checkpoints")), default=0
    )


def told(output: Path) -> JobExit:
    return JobExit.model_validate_json((output / ENDED).read_text())


def test_a_job_survives_a_killed_a_hung_and_a_terminated_rank(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    _, jobs = training(corpus, output, {})
    os.kill(jobs[1].pid, signal.SIGKILL)
    wait_for(lambda: all(job.ended.is_set() for job in jobs), 15, "a rank outlives the other")
    assert [job.code for job in jobs] == [1, -signal.SIGKILL]
    assert not (output / ENDED).exists(), "the rank that lost the other takes the blame"

    log, jobs = training(corpus, output, {"IMBIK_HANG_SECONDS": "5"})
    os.kill(jobs[1].pid, signal.SIGSTOP)
    wait_for(lambda: all(job.ended.is_set() for job in jobs), 30, "nobody noticed that a rank hangs")
    assert (told(output).reason, told(output).rank) == ("hang", 1)
    assert f"process {jobs[1].pid} on" in told(output).sentence and "is stopped" in told(output).sentence
    assert "most recent call first" in log.read_text(), "the log does not say where the other rank waited"

    _, jobs = training(corpus, output, {})
    os.kill(jobs[1].pid, signal.SIGTERM)
    wait_for(lambda: all(job.ended.is_set() for job in jobs), 30, "a rank does not end when asked to")
    assert [job.code for job in jobs] == [143, 143], "both stop at the same step"
    assert told(output).reason == "terminated"
    assert f"after step {reached(output)} of 200" in told(output).sentence

    ranks("teacher", CONFIG, {"data": corpus}, output, 2)
    whole = ranks("teacher", CONFIG, {"data": corpus}, tmp_path / "whole", 2)
    assert (output / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    assert not list(output.glob("heartbeats/rank-?"))


def test_a_rank_killed_while_it_writes_leaves_the_checkpoint_before(corpus: Path, tmp_path: Path) -> None:
    """Of a model so large that a file of a checkpoint is seen before it is whole, whichever rank writes it."""
    output, inputs = tmp_path / "out", {"data": corpus}
    config = CONFIG | {"shape": SHAPE | {"hidden_size": 256, "ffn_hidden_size": 1024}, "steps": 30}
    config |= {"validate_every": 30, "checkpoint_every": 2}
    config |= {"parallel": {"processes": 2, "threads": 1, "distributed_optimizer": True}}
    for rank in (0, 1, 0, 1):
        before, begun = reached(output), f"checkpoints/.partial-*/*/rank-{rank:05d}.safetensors"
        _, jobs = start_ranks("teacher", config, inputs, output, 2)
        wait_for(lambda: reached(output) > before, 120, "no checkpoint was written")  # noqa: B023 - called here
        wait_for(lambda: list(output.glob(begun)), 120, "no checkpoint is being written")  # noqa: B023
        os.kill(jobs[rank].pid, signal.SIGKILL)
        wait_for(lambda: all(job.ended.is_set() for job in jobs), 30, "a rank outlives the other")  # noqa: B023
        assert not any(job.code == 0 for job in jobs)
        found = checkpoints.newest_sound(output / "checkpoints")
        assert found and found[1]["step"] == reached(output) > before
    ranks("teacher", config, inputs, output, 2)
    whole = ranks("teacher", config, inputs, tmp_path / "whole", 2)
    assert (output / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
