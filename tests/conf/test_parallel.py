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


def test_sequence_parallelism_needs_tensor_ranks() -> None:
    assert Parallel(processes=2, tensor=2, sequence=True).sequence


@pytest.mark.parametrize("axis", ["tensor", "context", "data"])
def test_minitron_runs_with_pipeline_stages_only(axis: str) -> None:
    layout = {"processes": 2} | ({axis: 2} if axis != "data" else {})
    with pytest.raises(ValueError, match="pruning runs only with"):
        pipeline_only(Parallel(**layout), "pruning runs")
    pipeline_only(Parallel(processes=2, pipeline=2), "pruning runs")
