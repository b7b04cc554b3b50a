"""What heads for multi-token prediction cost, by hand for one shape."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import flops, heads, memory, optimizer, passes
from conf.estimate.numbers import StageEstimate
from conf.parallel import Parallel
from conf.shape import Shape, num_params
from conf.stages.teacher import TeacherConfig

SIZES: dict[str, Any] = {
    "num_layers": 4,
    "hidden_size": 64,
    "ffn_hidden_size": 96,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "vocab_size": 384,
}
SHAPE = Shape.model_validate(SIZES)
TRAINING: dict[str, Any] = {
    "shape": SIZES,
    "steps": 30,
    "seq_length": 32,
    "global_batch": 8,
    "micro_batch": 4,
    "lr": 1e-4,
    "min_lr": 1e-5,
    "warmup_steps": 2,
}
MATRICES = 64 * 16 * 12 + 3 * 64 * 96
ONE = MATRICES + 2 * 64 + 2 * 64 * 64 + 3 * 64


def configured(count: int, **changes: Any) -> TeacherConfig:
    return TeacherConfig.model_validate(TRAINING | {"mtp": {"heads": count} if count else None} | changes)


def test_parameters() -> None:
    """A layer, its two norms, a projection from twice the width, three norms."""
    assert heads.params(SHAPE, configured(0)) == 0
    assert heads.params(SHAPE, configured(1)) == ONE
    assert heads.params(SHAPE, configured(3)) == 3 * ONE
    assert heads.params(SHAPE, configured(1), tensor=2) == ONE - MATRICES // 2


def test_flops() -> None:
    output, attention = 2 * 64 * 384, 2 * 32 * 64
    one = 2 * MATRICES + attention + 2 * 2 * 64 * 64 + output
    assert heads.forward_flops(SHAPE, 32, configured(2)) == 2 * one
    plain = flops.trained(SHAPE, 1000, 32)
    assert flops.trained(SHAPE, 1000, 32, beside=one).flops == plain.flops + 1000 * 3 * one
    own = flops.forward_flops(SHAPE, 32)
    slowed = flops.trained(SHAPE, 1000, 32, beside=one, recompute=True).slowdown
    assert slowed == pytest.approx((4 * own + 3 * one) / (3 * own + 3 * one)), "heads are not computed again"


def test_the_plan_names_them() -> None:
    plain, headed = (configured(count).training_estimate(SHAPE, "teacher") for count in (0, 2))
    assert (plain.beside, headed.beside, headed.params) == (None, 2 * ONE, num_params(SHAPE))
    assert headed.cells()[0].endswith(" + 78.5 K in heads") and " in heads" not in plain.cells()[0]
    assert plain.disk is not None and headed.disk == plain.disk + 2 * 2 * ONE, "bf16"
    assert headed.work and plain.work
    assert headed.work.flops - plain.work.flops == 30 * 8 * 32 * 3 * heads.forward_flops(SHAPE, 32, configured(2))
    assert StageEstimate(beside=5).cells()[0] == "- + 5 in heads"


@pytest.mark.parametrize(("name", "moments"), [("adamw", 2), ("muon", 1)])
def test_a_checkpoint_holds_them(name: str, moments: int) -> None:
    """Fp32 weights and two moments, of Muon's matrices one."""
    plain, headed = (optimizer.in_checkpoint(SHAPE, configured(count, optimizer=name)) for count in (0, 1))
    stepped = MATRICES + 2 * 64 * 64
    assert headed - plain == 4 * (3 * ONE - (2 - moments) * stepped)


def test_memory() -> None:
    """Weights, gradients and states of heads; their activations and the gradients that their losses keep."""
    plain, headed = (memory.training(SHAPE, configured(count), "cpu") for count in (0, 1))
    assert headed.weights - plain.weights == 2 * ONE
    assert headed.gradients - plain.gradients == 4 * ONE
    assert headed.optimizer - plain.optimizer == 12 * ONE
    assert headed.logits - plain.logits == 2 * 4 * 32 * 64 + 4 * 384 * 64
    batch = passes.batch_of(configured(1), 4, "cpu")
    layer = passes.layer_bytes(SHAPE, batch, Parallel())
    norm = 4 * 2 * 64 + 4 + 2 * 64
    assert heads.activations(SHAPE, batch, Parallel(), configured(1)) == layer + 4 * 32 * (3 * norm + 2 * 2 * 64)
    ranks = Parallel(processes=2, tensor=2)
    split = heads.activations(SHAPE, batch, ranks.model_copy(update={"sequence": True}), configured(1))
    assert split == heads.activations(SHAPE, batch, ranks, configured(1)), "every rank sees all tokens"
