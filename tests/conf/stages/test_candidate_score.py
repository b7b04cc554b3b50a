"""What scoring many cuts of one teacher takes, and the layouts in which it runs."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate.flops import forward_flops
from conf.estimate.numbers import Models
from conf.shape import num_params
from conf.stages.candidate_score import ALL_AXES, AXES, SEARCH_AXES, QuickScore
from conf.stages.search import SearchConfig
from conf.stages.sweep import SweepConfig
from tests.fixtures.stages import MODELS, TEACHER, estimate, refused

KINDS: list[tuple[type[QuickScore], dict[str, Any]]] = [(SweepConfig, {}), (SearchConfig, {"target_params": 0.5})]


@pytest.mark.parametrize(("kind", "settings"), KINDS)
@pytest.mark.parametrize("cuts", [0, 3])
def test_each_cut_and_the_teacher_are_scored(kind: type[QuickScore], settings: dict[str, Any], cuts: int) -> None:
    config = kind.model_validate(settings | {"sequences": 5, "seq_length": 16})
    numbers = estimate(config, Models(**vars(MODELS) | {"cuts": cuts}))
    assert numbers.params == num_params(TEACHER)
    assert numbers.tokens == (cuts + 1) * 5 * 16
    assert numbers.work and numbers.work.flops == numbers.tokens * 2 * forward_flops(TEACHER, 16)


@pytest.mark.parametrize(("precision", "width"), [("bf16", 2), ("fp32", 4)])
def test_the_teacher_and_a_cut_are_in_memory(precision: str, width: int) -> None:
    job = estimate(SweepConfig.model_validate({"precision": precision, "seq_length": 16})).job
    assert job and job.peak("cpu").weights == 2 * width * num_params(TEACHER)
    assert (job.spread, job.where, job.shapes) == ("pipeline", "at", (TEACHER,))


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_cuts_are_scored_in_pipeline_stages_alone(kind: type[QuickScore], settings: dict[str, Any]) -> None:
    for axis in ("tensor", "context"):
        layout = {"processes": 2, axis: 2}
        refused(kind, settings | {"parallel": layout}, "scoring cuts runs only with tensor-, data- and context-par")
    assert kind.model_validate(settings | {"parallel": {"processes": 2, "pipeline": 2}}).parallel.pipeline == 2


def test_experts_are_an_axis_of_a_search_alone() -> None:
    assert {*SEARCH_AXES} - {*ALL_AXES} == {"num_experts"} and {*ALL_AXES} - {*AXES} == {"num_query_groups"}
