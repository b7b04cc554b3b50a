"""What an optimizer holds and what a step of it takes for a moment, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import memory, optimizer, passes
from conf.load import load
from conf.shape import Shape, num_params
from conf.stages.teacher import TeacherConfig
from tests.conf.estimate.test_memory import ALONE, EXPERTS, LLAMA, MATRICES, MIXED, OTHERS, PARAMS, one_pass, training

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


def test_the_best_weights_of_divided_experts_are_fewer() -> None:
    distill = load("tests/recipes/tiny.yaml").distill
    assert distill is not None
    layout = distill.parallel.model_copy(update={"processes": 4, "expert": 4})
    best = distill.model_copy(update={"keep": "best", "parallel": layout, "precision": "fp32"})
    assert memory.copies(MIXED, best).best == 4 * (num_params(MIXED) - 4 * 3 * EXPERTS // 4)


def test_fewer_micro_batches_than_stages_are_in_flight() -> None:
    """8 sequences are 2 micro-batches of each of two replicas; four stages could hold 4."""
    unknown = LLAMA.model_copy(update={"vocab_size": None})
    got = training("cpu", "fp32", unknown, processes=8, pipeline=4)
    batch = one_pass("cpu", "fp32", 2)
    layer, working = passes.layer_bytes(LLAMA, batch, ALONE), passes.backward_bytes(LLAMA, batch, ALONE)
    assert got.activations == 2 * layer + working


def test_a_teacher_passes_while_activations_are_held_or_before() -> None:
    wide, batch = LLAMA.model_copy(update={"ffn_hidden_size": 4096}), one_pass("cpu", "fp32", 2)
    layer, passing = passes.layer_bytes(LLAMA, batch, ALONE), passes.forward_bytes(wide, batch, ALONE)
    staged = training("cpu", "fp32", teacher=wide, processes=2, pipeline=2)
    assert staged.activations == 2 * 2 * layer + passing
    small, large = (training("cpu", "fp32", teacher=teacher) for teacher in (LLAMA, wide))
    assert large.activations + large.logits == passing, "its pass has ended before the student's begins"
    narrow = LLAMA.model_copy(update={"ffn_hidden_size": 8})
    assert training("cpu", "fp32", teacher=narrow).activations == small.activations


def test_ranks_of_a_sequence_share_the_last_norm() -> None:
    batch = one_pass("cpu", "fp32", 2)
    got = training("cpu", "fp32", processes=2, context=2)
    layout = got.logits and config(parallel={"processes": 2, "context": 2}).parallel
    assert layout
    layer, working = passes.layer_bytes(LLAMA, batch, layout), passes.backward_bytes(LLAMA, batch, layout)
    assert got.activations == 4 * layer + 20 * (8 * 8 + 4) + max(0, working - got.logits)


def test_the_best_weights_are_split_over_the_models_ranks() -> None:
    distill = load("tests/recipes/tiny.yaml").distill
    assert distill is not None
    layout = distill.parallel.model_copy(update={"processes": 8, "tensor": 2, "pipeline": 2})
    best = distill.model_copy(update={"keep": "best", "parallel": layout, "precision": "fp32"})
    found = memory.copies(LLAMA, best)
    params = num_params(LLAMA)
    assert (found.best, found.checkpoint, found.processes) == (4 * params // 4, (12 + 4) * params, 8)
