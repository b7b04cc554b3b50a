"""What every training stage refuses, the text that it reads, and what the plan counts of it."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import memory, passes
from conf.estimate.flops import forward_flops
from conf.load import load
from conf.shape import num_params
from conf.stages.distill import DistillConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.teacher import TeacherConfig
from tests.fixtures.stages import SHAPE, STEPS, STUDENT, TEACHER, estimate, refused

SPREAD: dict[str, Any] = {"processes": 2, "distributed_optimizer": True}
EMA: dict[str, Any] = {"average": {"kind": "ema"}}
REWIND: dict[str, Any] = {"window": 5, "action": "rewind"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"min_lr": 2e-3}, "min_lr 0.002 is above lr 0.001"),
    ({"warmup_steps": 10}, "warmup_steps 10 is not below steps 10"),
    ({"schedule": "constant"}, "min_lr 0.0001 is not lr 0.001"),
    ({"schedule": {"name": "wsd", "decay_share": 0.9}}, "the 9 steps of schedule.decay_share"),
    ({"schedule": {"name": "linear", "decay_share": 0.2}}, "decay_share is 0.2 but schedule.name is"),
    ({"schedule": {"name": "cosine", "decay": "linear"}}, "decay is linear but schedule.name is cosine"),
    ({"global_batch": 7}, "global_batch 7 is not a multiple of micro_batch 2 x data-parallel size 1"),
    ({"parallel": {"processes": 8}}, "micro_batch 2 x data-parallel size 8; choose a multiple of 16"),
    ({"spikes": {"window": 10}}, "spikes.window 10 is not below steps 10, so no step would be judged"),
    ({"spikes": REWIND | {"rewind_every": 10}}, "spikes.rewind_every 10 is not below steps 10, so training could"),
    ({"export": "average"}, "export is average but average is empty"),
    (EMA | {"model": "a/b", "shape": None, "steps": 0}, "average needs training steps, and steps is 0"),
    ({"average": {"kind": "mean", "last": 11}}, "average.last 11 weights, 1 steps apart, reach back 10 steps, but"),
    ({"average": {"kind": "mean", "last": 3, "every": 5}}, "last 3 weights, 5 steps apart, reach back 10 steps, but"),
    ({"optimizer": "muon", "parallel": SPREAD}, "parallel.distributed_optimizer is true but optimizer is muon"),
    (EMA | {"parallel": SPREAD}, "parallel.distributed_optimizer is true but average needs the fp32 weights"),
    ({"optimizer": "muon", "model": "a/b", "shape": None, "steps": 0}, "optimizer is muon but steps is 0"),
]
TAKEN: list[dict[str, Any]] = [
    {"min_lr": 1e-3},
    {"warmup_steps": 9},
    {"parallel": {"processes": 4}},
    {"spikes": {"window": 9}},
    {"spikes": REWIND | {"rewind_every": 9}},
    EMA | {"export": "average"},
    {"average": {"kind": "mean", "last": 10}},
    {"average": {"kind": "mean", "last": 4, "every": 3}},
    {"optimizer": "muon"},
    {"parallel": SPREAD},
    EMA | {"parallel": SPREAD, "precision": "fp32"},
]


@pytest.mark.parametrize(("settings", "told"), REFUSED)
def test_a_training_that_cannot_be_is_refused(settings: dict[str, Any], told: str) -> None:
    refused(TeacherConfig, STEPS | {"shape": SHAPE} | settings, told)


@pytest.mark.parametrize("settings", TAKEN)
def test_a_training_that_is_just_possible_is_taken(settings: dict[str, Any]) -> None:
    assert TeacherConfig.model_validate(STEPS | {"shape": SHAPE} | settings).steps == 10


def test_a_stage_of_no_steps_reads_no_batches() -> None:
    unread = DistillConfig.model_validate({"steps": 0})
    assert (unread.seq_length, unread.global_batch, unread.micro_batch) == (8, 1, 1)
    assert (unread.lr, unread.min_lr, unread.warmup_steps, unread.tokens) == (1.0, 0.0, 0, 0)
    odd = DistillConfig.model_validate({"steps": 0, "global_batch": 7, "micro_batch": 2})
    assert odd.global_batch == 7, "nothing divides it"
    refused(DistillConfig, {"steps": 1}, "seq_length")
    refused(DistillConfig, {"steps": False}, "seq_length")


def distill(**settings: Any) -> DistillConfig:
    return DistillConfig.model_validate(STEPS | settings)


def test_a_training_reads_its_sequences() -> None:
    config = distill(begun=4)
    assert (config.sequences, config.tokens, config.tokens_per_step) == (10 * 8, 10 * 8 * 16, 8 * 16)
    assert (config.block_length, config.blocks) == (16, 80)
    assert (config.own_steps, config.own_tokens) == (6, 6 * 8 * 16)


def test_text_that_is_left_out_is_read_in_its_place() -> None:
    assert distill().spare_steps == distill(spikes={"window": 5}).spare_steps == 0
    assert distill(spikes=REWIND | {"rewind_every": 4, "rewinds": 3}).spare_steps == 3 * 4


def test_a_micro_batch_fits_the_replicas() -> None:
    assert [size for size in range(1, 9) if distill().takes(size, 2)] == [1, 2, 4]
    longer = distill(micro_batch=4, phases=[{"until": 0.5}, {"until": 1, "seq_length": 64}])
    assert [size for size in range(1, 9) if longer.takes(size, 1)] == [4, 8]


def test_ranks_that_share_a_sequence_take_two_pieces_each() -> None:
    assert [size for size in range(1, 10) if distill().spreads_over(size)] == [1, 2, 4, 8]


def test_training_counts_its_tokens() -> None:
    numbers = estimate(distill())
    assert (numbers.tokens, numbers.steps, numbers.params) == (10 * 8 * 16, 10, num_params(STUDENT))
    student, teacher = (forward_flops(shape, 16) for shape in (STUDENT, TEACHER))
    assert numbers.work and numbers.work.flops == numbers.tokens * (3 * student + teacher)
    assert numbers.job and (numbers.job.spread, numbers.job.shapes) == ("training", (STUDENT, TEACHER))
    offline = estimate(distill(offline=True, top_k=4, best_by="val_loss"))
    assert offline.work and offline.work.flops == numbers.tokens * 3 * student
    assert offline.job and offline.job.shapes == (STUDENT,) and offline.beside is None


def test_recomputation_takes_another_pass() -> None:
    plain, again = (estimate(distill(parallel={"recompute": on})).work for on in (False, True))
    assert plain and again and plain.flops == again.flops and plain.slowdown == 1
    student, teacher = (forward_flops(shape, 16) for shape in (STUDENT, TEACHER))
    assert again.slowdown == pytest.approx((4 * student + teacher) / (3 * student + teacher))


def test_training_writes_a_checkpoint_beside_those_it_keeps() -> None:
    numbers, params = estimate(distill(checkpoints_kept=3, precision="bf16")), num_params(STUDENT)
    assert (numbers.disk, numbers.scratch) == (2 * params, (3 + 1) * 12 * params)
    assert estimate(distill(precision="fp32")).disk == 4 * params


def test_heads_are_beside_the_model_and_on_disk() -> None:
    """A head: two norms, the matrix that joins hidden state and embedding, and a layer with its last norm."""
    layer = (num_params(STUDENT) - 128 * 32 - 32) // 2
    numbers, head = estimate(distill(mtp={"heads": 2})), 2 * 32 + 2 * 32 * 32 + layer + 32
    assert (numbers.beside, numbers.params) == (2 * head, num_params(STUDENT))
    assert numbers.disk == 2 * (num_params(STUDENT) + 2 * head)


def test_phases_that_are_made_elsewhere_are_not_counted() -> None:
    """Of steps 5 to 8, one is of 16 tokens and three of 32."""
    phases = [{"until": 0.5}, {"until": 1, "seq_length": 32}]
    numbers = estimate(distill(phases=phases, begun=4))
    assert (numbers.steps, numbers.tokens) == (6, 6 * 128) and numbers.work
    short, long = (3 * forward_flops(STUDENT, n) + forward_flops(TEACHER, n) for n in (16, 32))
    assert numbers.work.flops == pytest.approx(128 * (short + 5 * long))


def test_an_evaluation_while_training_adds_two_models() -> None:
    config = load("tests/recipes/tiny.yaml").distill
    assert config is not None
    plain = config.model_copy(update={"evaluation": None})
    watched = config.model_copy(update={"evaluation": EvaluateConfig(sequences=5, seq_length=16)})
    one, other = (estimate(each).job for each in (plain, watched))
    assert one and other
    before, after = one.peak("cpu"), other.peak("cpu")
    batch = passes.batch_of(EvaluateConfig(sequences=5, seq_length=16), EvaluateConfig().batch, "cpu")
    scored = memory.scoring(STUDENT, num_params(STUDENT) + num_params(TEACHER), batch)
    assert after.total - before.total == scored.total - memory.LIBRARIES
