"""Layouts that add up, and those that do not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.parallel import Parallel, pipeline_only


@pytest.mark.parametrize(
    ("layout", "replicas"),
    [
        ({}, 1),
        ({"processes": 8}, 8),
        ({"processes": 24, "tensor": 2, "pipeline": 3}, 4),
        ({"processes": 24, "tensor": 2, "pipeline": 3, "context": 2}, 2),
    ],
)
def test_replicas_are_what_the_model_leaves(layout: dict[str, Any], replicas: int) -> None:
    assert Parallel(**layout).data == replicas


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        ({"processes": 6, "tensor": 4}, "tensor 4 x pipeline 1; choose a multiple of 4"),
        ({"processes": 6, "pipeline": 4}, "tensor 1 x pipeline 4; choose a multiple of 4"),
        ({"processes": 3, "context": 2}, "pipeline 1 x context 2; choose a multiple of 2"),
        ({"processes": 6, "context": 4}, "pipeline 1 x context 4; choose a multiple of 4"),
        ({"processes": 2, "sequence": True}, "parallel.tensor is 1"),
    ],
)
def test_a_layout_that_does_not_add_up_is_refused(layout: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Parallel(**layout)


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        ({"processes": 4, "expert": 3}, "expert is 3, .* data-parallel 4 ranks, of which it is no divisor"),
        ({"processes": 4, "context": 2, "expert": 8}, r"data-parallel 2 x context 2 ranks"),
        ({"processes": 4, "tensor": 2, "expert": 4}, "data-parallel 2 ranks"),
        ({"processes": 2, "pipeline": 2, "expert": 2}, "data-parallel 1 ranks"),
    ],
)
def test_experts_are_divided_over_replicas(layout: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Parallel(**layout)


def test_context_ranks_divide_experts_too() -> None:
    assert Parallel(processes=8, tensor=2, context=2, expert=4).data == 2


@pytest.mark.parametrize(
    ("layout", "everyone", "experts"),
    [
        ({"processes": 8, "expert": 2}, 1, 1),
        ({"processes": 8, "expert": 2, "distributed_optimizer": True}, 8, 4),
        ({"processes": 8, "context": 2, "expert": 8, "distributed_optimizer": True}, 8, 1),
    ],
)
def test_fewer_ranks_share_the_states_of_an_expert(layout: dict[str, Any], everyone: int, experts: int) -> None:
    parallel = Parallel(**layout)
    assert (parallel.sharing, parallel.sharing_experts) == (everyone, experts)


def test_sequence_parallelism_needs_tensor_ranks() -> None:
    assert Parallel(processes=2, tensor=2, sequence=True).sequence


@pytest.mark.parametrize("axis", ["tensor", "context", "data"])
def test_minitron_runs_with_pipeline_stages_only(axis: str) -> None:
    layout = {"processes": 2} | ({axis: 2} if axis != "data" else {})
    with pytest.raises(ValueError, match="pruning runs only with"):
        pipeline_only(Parallel(**layout), "pruning runs")
    pipeline_only(Parallel(processes=2, pipeline=2), "pruning runs")
