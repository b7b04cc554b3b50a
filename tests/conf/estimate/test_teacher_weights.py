"""Bytes of a teacher in FP8, matrix by matrix, of models small enough to count."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import memory, teacher_weights
from conf.parallel import Parallel
from conf.shape import Shape
from conf.stages.distill import DistillConfig
from conf.stages.logits import LogitsConfig
from tests.fixtures.estimates import ALONE, LLAMA, MIXED, one_pass
from tests.fixtures.stages import STEPS

# queries, keys and values 8 x 16 and their output 8 x 8; gate and up 8 x 32, down 16 x 8
ATTENTION, MLP = ({"weights": 8 * 24, "split": 16, "whole": 8}, {"weights": 3 * 128, "split": 32, "whole": 8})


@pytest.mark.parametrize(
    ("shape", "layout", "experts"),
    [
        (LLAMA, {}, 1),
        (LLAMA, {"processes": 2, "tensor": 2}, 1),
        (LLAMA, {"processes": 2, "pipeline": 2}, 1),
        (MIXED, {}, 4),
        (MIXED, {"processes": 4, "tensor": 2, "expert": 2}, 2),
    ],
)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_weight_takes_a_byte_and_an_output_a_scale(
    shape: Shape, layout: dict[str, int], experts: int, precision: Any
) -> None:
    parallel, wide = Parallel(**layout), 4 if precision == "fp32" else 2
    weights = (ATTENTION["weights"] + experts * MLP["weights"]) // parallel.tensor
    scales = (ATTENTION["split"] + experts * MLP["split"]) // parallel.tensor
    scales += ATTENTION["whole"] + experts * MLP["whole"]
    layers = 4 // parallel.pipeline
    assert teacher_weights.saved(shape, one_pass(precision=precision), parallel) == layers * (
        (wide - 1) * weights - wide * scales
    )


def test_a_gpu_widens_all_experts_of_a_rank() -> None:
    gate = 2 * 8 * 2 * 16
    assert teacher_weights.widened(LLAMA, one_pass(), ALONE) == gate
    assert teacher_weights.widened(LLAMA, one_pass(), Parallel(processes=2, tensor=2)) == gate // 2
    assert teacher_weights.widened(MIXED, one_pass("cpu", "fp32"), ALONE) == 2 * gate
    assert teacher_weights.widened(MIXED, one_pass(), Parallel(processes=2, expert=2)) == 2 * gate


def test_the_plan_counts_what_fp8_saves() -> None:
    def training(held: str) -> memory.Memory:
        config = DistillConfig.model_validate(STEPS | {"teacher_weights": held, "precision": "bf16"})
        return memory.training(LLAMA, config, "cuda", LLAMA)

    full, fp8 = training("full"), training("fp8")
    assert full.teacher - fp8.teacher == teacher_weights.saved(LLAMA, one_pass(), ALONE)
    assert (full.weights, full.optimizer, full.activations) == (fp8.weights, fp8.optimizer, fp8.activations)
    stored = [memory.storing(LLAMA, one_pass(), ALONE, fp8=fp8) for fp8 in (False, True)]
    assert stored[0].weights - stored[1].weights == teacher_weights.saved(LLAMA, one_pass(), ALONE)
    assert stored[1].activations - stored[0].activations == teacher_weights.widened(LLAMA, one_pass(), ALONE)


def test_keys_are_those_from_before_the_setting() -> None:
    for config in (DistillConfig.model_validate(STEPS), LogitsConfig(seq_length=16)):
        assert "teacher_weights" not in config.identity()
        narrow_one = config.model_copy(update={"teacher_weights": "fp8"})
        assert narrow_one.identity() == config.identity() | {"teacher_weights": "fp8"}
