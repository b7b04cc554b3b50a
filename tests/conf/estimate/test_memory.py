"""Bytes by hand, tensor by tensor, for a model small enough to count. tests/jobs/test_memory.py measures a real one."""

from __future__ import annotations

import pytest

from conf.estimate import memory, passes
from conf.estimate.memory import LIBRARIES, Memory
from conf.load import load
from conf.parallel import Parallel
from conf.shape import Shape, num_params
from tests.fixtures.estimates import (
    ALONE,
    BY_CONTEXT,
    BY_STAGE,
    BY_TENSOR,
    EXPERTS,
    LLAMA,
    MATRICES,
    MIXED,
    NORMS,
    OTHERS,
    PARAMS,
    QWEN,
    ROUTER,
    ROWS,
    TIED,
    one_pass,
    trained,
)


@pytest.mark.parametrize(
    ("shape", "parallel", "stage", "params"),
    [
        (LLAMA, ALONE, 0, 4 * (MATRICES + NORMS) + 2 * ROWS + 8),
        (TIED, ALONE, 0, 4 * (MATRICES + NORMS) + ROWS + 8),
        (QWEN, ALONE, 0, 4 * (MATRICES + NORMS + 2 * 2) + 2 * ROWS + 8),
        (LLAMA, BY_TENSOR, 0, 4 * (MATRICES // 2 + NORMS) + ROWS + 8),
        (LLAMA, BY_STAGE, 0, 2 * (MATRICES + NORMS) + ROWS),
        (LLAMA, BY_STAGE, 1, 2 * (MATRICES + NORMS) + ROWS + 8),
        (TIED, BY_STAGE, 1, 2 * (MATRICES + NORMS) + ROWS + 8),
    ],
)
def test_parameters_of_a_rank(shape: Shape, parallel: Parallel, stage: int, params: int) -> None:
    assert memory.rank_params(shape, parallel, stage) == params


@pytest.mark.parametrize(
    ("layout", "layer"),
    [
        ({}, EXPERTS + OTHERS),
        ({"processes": 4, "expert": 4}, EXPERTS // 4 + OTHERS),
        ({"processes": 4, "tensor": 2, "expert": 2}, EXPERTS // 4 + OTHERS // 2),
    ],
)
def test_a_rank_holds_its_experts_alone(layout: dict[str, int], layer: int) -> None:
    rows = ROWS // layout.get("tensor", 1)
    held = 4 * (layer + NORMS + 2 * 2 + ROUTER) + 2 * rows + 8
    assert memory.rank_params(MIXED, Parallel(**layout), 0) == held


def test_the_fullest_stages_are_the_ends() -> None:
    assert memory.stages_of(ALONE) == (0,)
    assert memory.stages_of(Parallel(processes=4, pipeline=4)) == (0, 3)


def test_states_of_training() -> None:
    half, full = trained("cuda", "bf16"), trained("cpu", "fp32")
    assert (half.weights, half.gradients, half.optimizer) == (2 * PARAMS, 4 * PARAMS, 12 * PARAMS)
    assert (full.weights, full.gradients, full.optimizer) == (4 * PARAMS, 4 * PARAMS, 8 * PARAMS)
    assert full.other == LIBRARIES
    assert full.teacher == 0


def test_activations_of_training() -> None:
    batch = one_pass("cpu", "fp32", 2)
    layer, head = passes.layer_bytes(LLAMA, batch, ALONE), passes.head_bytes(LLAMA, batch, ALONE, compared=False)
    last_norm = 40 * (8 * 8 + 4)
    working = passes.backward_bytes(LLAMA, batch, ALONE)
    got = trained("cpu", "fp32")
    assert got.logits == head
    assert got.activations == 4 * layer + last_norm + max(0, working - head)
    again = trained("cpu", "fp32", recompute=True)
    stream = passes.stream_bytes(LLAMA, batch, ALONE)
    assert again.activations == 4 * stream + last_norm + max(0, working + layer - head)


def test_the_first_stage_keeps_two_micro_batches() -> None:
    batch = one_pass("cpu", "fp32", 2)
    got = trained("cpu", "fp32", processes=2, pipeline=2)
    first = 2 * 2 * passes.layer_bytes(LLAMA, batch, BY_STAGE) + passes.backward_bytes(LLAMA, batch, BY_STAGE)
    assert got.activations == first
    assert got.logits == 0


def test_adam_on_a_gpu_steps_beside_no_activations() -> None:
    got = trained("cuda", "bf16")
    assert got.other == max(0, 4 * PARAMS - got.activations - got.logits) + memory.CUDA_CONTEXT
    wide = LLAMA.model_copy(update={"hidden_size": 4096})
    large = trained("cuda", "bf16", wide)
    weights = memory.rank_params(wide, ALONE, 0)
    assert 4 * weights > large.activations + large.logits
    assert large.other == 4 * weights - large.activations - large.logits + memory.CUDA_CONTEXT


def test_a_teacher_adds_weights_and_two_streams() -> None:
    got, alone = trained("cpu", "fp32", teacher=LLAMA), trained("cpu", "fp32")
    assert got.teacher == 4 * PARAMS + 2 * 4 * 40 * 8
    assert got.logits > alone.logits


def test_copies_of_checkpoints_and_best_weights() -> None:
    assert memory.Copies(checkpoint=5, best=3).of(4) == 5 + 4 * (3 + LIBRARIES)
    spread = memory.Copies(checkpoint=6, best=3, processes=4)
    assert [spread.of(ranks) - ranks * (3 + LIBRARIES) for ranks in (1, 2, 4)] == [2, 3, 6], "every rank has its share"
    scores, flops = one_pass(sequences=2), 700
    got = memory.scoring(LLAMA, PARAMS + flops, scores)
    assert (got.weights, got.teacher, got.logits) == (2 * PARAMS, 2 * flops, 4 * 40 * 10)
    assert got.activations == passes.forward_bytes(LLAMA, scores, ALONE)


def test_two_workloads_share_the_libraries() -> None:
    one, other = Memory(weights=5, other=10), Memory(weights=7, logits=2, other=8)
    assert memory.added(one, other) == Memory(weights=5, other=10 + 17 - 8)


def test_passes_of_two_models_with_full_logits() -> None:
    got = memory.passing(LLAMA, one_pass(), ALONE, models=2)
    assert (got.weights, got.logits) == (2 * 2 * PARAMS, 2 * 2 * 60 * 10)
    assert got.activations == passes.forward_bytes(LLAMA, one_pass(), ALONE)
    hooked = memory.passing(LLAMA, one_pass(), BY_TENSOR, hooked=True)
    assert hooked.logits == 0
    assert hooked.activations == passes.forward_bytes(LLAMA, one_pass(), BY_TENSOR) + 8 * 60 * 16 // 2


def test_stored_logits_are_computed_in_groups() -> None:
    assert memory.storing(LLAMA, one_pass(), ALONE).logits == 10 * (2 * 60 + 4 * 2 * 60)


def test_the_best_weights_of_divided_experts_are_fewer() -> None:
    distill = load("tests/recipes/tiny.yaml").distill
    assert distill is not None
    layout = distill.parallel.model_copy(update={"processes": 4, "expert": 4})
    best = distill.model_copy(update={"keep": "best", "parallel": layout, "precision": "fp32"})
    assert memory.copies(MIXED, best).best == 4 * (num_params(MIXED) - 4 * 3 * EXPERTS // 4)


def test_fewer_micro_batches_than_stages_are_in_flight() -> None:
    """8 sequences are 2 micro-batches of each of two replicas; four stages could hold 4."""
    unknown = LLAMA.model_copy(update={"vocab_size": None})
    got = trained("cpu", "fp32", unknown, processes=8, pipeline=4)
    batch = one_pass("cpu", "fp32", 2)
    layer, working = passes.layer_bytes(LLAMA, batch, ALONE), passes.backward_bytes(LLAMA, batch, ALONE)
    assert got.activations == 2 * layer + working


def test_a_teacher_passes_while_activations_are_held_or_before() -> None:
    wide, batch = LLAMA.model_copy(update={"ffn_hidden_size": 4096}), one_pass("cpu", "fp32", 2)
    layer, passing = passes.layer_bytes(LLAMA, batch, ALONE), passes.forward_bytes(wide, batch, ALONE)
    staged = trained("cpu", "fp32", teacher=wide, processes=2, pipeline=2)
    assert staged.activations == 2 * 2 * layer + passing
    small, large = (trained("cpu", "fp32", teacher=teacher) for teacher in (LLAMA, wide))
    assert large.activations + large.logits == passing, "its pass has ended before the student's begins"
    narrow = LLAMA.model_copy(update={"ffn_hidden_size": 8})
    assert trained("cpu", "fp32", teacher=narrow).activations == small.activations


def test_ranks_of_a_sequence_share_the_last_norm() -> None:
    batch = one_pass("cpu", "fp32", 2)
    got = trained("cpu", "fp32", processes=2, context=2)
    layer, working = passes.layer_bytes(LLAMA, batch, BY_CONTEXT), passes.backward_bytes(LLAMA, batch, BY_CONTEXT)
    assert got.activations == 4 * layer + 20 * (8 * 8 + 4) + max(0, working - got.logits)


def test_the_best_weights_are_split_over_the_models_ranks() -> None:
    distill = load("tests/recipes/tiny.yaml").distill
    assert distill is not None
    layout = distill.parallel.model_copy(update={"processes": 8, "tensor": 2, "pipeline": 2})
    best = distill.model_copy(update={"keep": "best", "parallel": layout, "precision": "fp32"})
    found = memory.copies(LLAMA, best)
    params = num_params(LLAMA)
    assert (found.best, found.checkpoint, found.processes) == (4 * params // 4, (12 + 4) * params, 8)


def test_ranks_share_the_logits_that_are_stored() -> None:
    shape = LLAMA.model_copy(update={"vocab_size": 2**18})
    assert memory.storing(shape, one_pass("cpu", "fp32", 4, 1024), BY_TENSOR).logits == 2**17 * (4 * 512 + 4 * 2 * 8)
    full = memory.passing(LLAMA, one_pass(), BY_TENSOR)
    assert full.logits == 2 * 2 * 60 * 10 // 2


def test_the_device_decides_what_a_process_holds() -> None:
    assert memory.passing(LLAMA, one_pass("cpu"), ALONE).other == memory.LIBRARIES
    assert memory.passing(LLAMA, one_pass("cuda"), ALONE).other == memory.CUDA_CONTEXT


def test_all_causes_add_up() -> None:
    assert Memory().total == 0
    given = {cause: 10**number for number, cause in enumerate(memory.CAUSES)}
    assert Memory(**given).total == 1_111_111


def test_an_unknown_vocabulary_is_scored_without_logits() -> None:
    unknown = LLAMA.model_copy(update={"vocab_size": None})
    assert memory.scoring(unknown, PARAMS, one_pass()).logits == 0
    assert memory.passing(unknown, one_pass(), ALONE).logits == 0
