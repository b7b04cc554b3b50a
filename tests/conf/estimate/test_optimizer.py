"""What an optimizer holds and what a step of it takes for a moment, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import memory, optimizer
from conf.shape import Shape
from conf.stages.teacher import TeacherConfig
from tests.fixtures.estimates import EXPERTS, LLAMA, MATRICES, MIXED, OTHERS, PARAMS

SETTINGS: dict[str, Any] = {"steps": 5, "warmup_steps": 1, "lr": 1e-3, "min_lr": 1e-4, "global_batch": 8}
SETTINGS |= {"micro_batch": 2, "seq_length": 20, "precision": "bf16"}


def config(shape: Shape = LLAMA, **settings: Any) -> TeacherConfig:
    return TeacherConfig.model_validate(SETTINGS | {"shape": shape.model_dump()} | settings)


@pytest.mark.parametrize(
    ("precision", "layout", "bytes_"),
    [
        # the widest update, 8 x 32 in fp32; the matrix and its product, 8 x 16 each in bf16 and once in fp32; squares
        ("bf16", {}, 4 * 256 + (4 + 2 * 2) * 128 + 2 * 2 * 64),
        ("fp32", {}, 4 * 256 + (4 + 2 * 4) * 128 + 2 * 4 * 64),
        ("bf16", {"processes": 2, "tensor": 2}, 4 * 256 // 2 + (4 + 2 * 2) * 128 + 2 * 2 * 64),
    ],
)
def test_muon_holds_its_largest_matrix(precision: str, layout: dict[str, int], bytes_: int) -> None:
    muon = config(optimizer="muon", precision=precision, parallel=layout)
    assert optimizer.stepping(PARAMS, LLAMA, muon, foreach=False) == bytes_


def test_attention_is_the_largest_matrix_of_a_narrow_mlp() -> None:
    """Queries, keys and values of 8 each in one matrix; an MLP of 8 would have 16."""
    narrow = LLAMA.model_copy(update={"ffn_hidden_size": 8, "num_query_groups": 4})
    taken = optimizer.stepping(PARAMS, narrow, config(narrow, optimizer="muon"), foreach=False)
    assert taken == 4 * 8 * 24 + (4 + 2 * 2) * 64 + 2 * 2 * 64
    few = LLAMA.model_copy(update={"head_dim": 6})
    taken = optimizer.stepping(PARAMS, few, config(few, optimizer="muon"), foreach=False)
    assert taken == 4 * 8 * (24 + 2 * 12) + (4 + 2 * 2) * 8 * 24 + 2 * 2 * 64, "24 rows, whose smaller side is 8"


def test_roots_of_second_moments_are_taken_at_once_on_a_gpu() -> None:
    assert optimizer.stepping(1000, LLAMA, config(), foreach=True) == 4 * 1000
    assert optimizer.stepping(1000, LLAMA, config(), foreach=False) == 0
    shared = config(parallel={"processes": 4, "distributed_optimizer": True})
    assert optimizer.stepping(1000, LLAMA, shared, foreach=True) == 1000
    muon, many = config(optimizer="muon"), 10_000
    assert optimizer.stepping(many, LLAMA, muon, foreach=True) == 4 * (many - 4 * MATRICES)


def test_shares_of_an_optimizer_are_rounded_up() -> None:
    layout = {"processes": 4, "distributed_optimizer": True}
    assert optimizer.held(7, LLAMA, config(parallel=layout, precision="fp32")) == 4 * 4
    averaged = config(parallel=layout, precision="fp32", average={"kind": "ema"})
    assert optimizer.held(7, LLAMA, averaged) == 4 * (7 + 4), "each rank has the whole average"


def test_states_of_divided_experts_have_fewer_ranks() -> None:
    """Of 4 ranks, 2 and 2 hold the same experts: a rank has half of them and a fourth of the rest, whose states all
    share."""
    layout = {"processes": 4, "expert": 2}
    params = memory.rank_params(MIXED, config(MIXED, parallel=layout).parallel, 0)
    experts = 4 * EXPERTS // 2
    assert optimizer.of_experts(MIXED, config(MIXED, parallel=layout).parallel) == experts
    assert optimizer.held(params, MIXED, config(MIXED, parallel=layout, precision="fp32")) == 4 * 2 * params
    shared = config(MIXED, parallel=layout | {"distributed_optimizer": True})
    assert optimizer.held(params, MIXED, shared) == 4 * (3 * (params - experts) // 4 + 3 * experts // 2)
    muon = config(MIXED, parallel={"processes": 8, "tensor": 2, "expert": 2, "sequence": True}, optimizer="muon")
    assert optimizer.single_moment(MIXED, muon.parallel, muon) == 4 * (EXPERTS // 4 + OTHERS // 2)


def test_a_checkpoint_has_weights_two_moments_and_an_average() -> None:
    assert optimizer.in_checkpoint(LLAMA, config()) == 4 * 3 * PARAMS
    assert optimizer.in_checkpoint(LLAMA, config(average={"kind": "ema"})) == 4 * 4 * PARAMS
    muon = config(optimizer="muon", parallel={"processes": 2, "pipeline": 2})
    assert optimizer.in_checkpoint(LLAMA, muon) == 4 * (3 * PARAMS - 4 * MATRICES), "all stages are in it"


def test_pipeline_stages_have_their_layers_alone() -> None:
    staged = config(optimizer="muon", parallel={"processes": 2, "pipeline": 2})
    assert optimizer.single_moment(LLAMA, staged.parallel, staged) == 2 * MATRICES
    assert optimizer.of_experts(MIXED, staged.parallel) == 2 * EXPERTS
