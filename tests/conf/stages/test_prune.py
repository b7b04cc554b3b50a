"""What a cut may be: axes that go together, rankings that are needed, layouts that cut; and what the plan counts."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import memory
from conf.estimate.memory import LIBRARIES
from conf.parallel import Parallel
from conf.shape import num_params
from conf.stages.prune import PruneConfig
from tests.fixtures.stages import STUDENT, TEACHER, estimate, refused

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "prune cuts nothing; set drop_layers"),
    ({"ranking": "random"}, "prune cuts nothing; set drop_layers"),
    ({"drop_layers": [1], "num_layers": 2}, "prune.drop_layers and prune.num_layers both set the depth"),
    ({"drop_layers": [1], "ranking": "random"}, "only drop_layers is set, which needs no ranking"),
    ({"num_query_groups": 1, "ranking": "random"}, "only num_query_groups is set, which needs no ranking"),
    (
        {"num_query_groups": 1, "drop_layers": [1], "ranking": "magnitude"},
        "prune.ranking is magnitude but only drop_layers and num_query_groups is set",
    ),
    ({"num_query_groups": 0}, "greater than or equal to 1"),
    ({"num_layers": 2, "kv_merging": "mean"}, "kv_merging is mean but num_query_groups is not set"),
    ({"num_layers": 2, "kv_grouping": "adjacent"}, "set num_query_groups or remove kv_grouping"),
    ({"drop_layers": [1, 1]}, "prune.drop_layers is [1, 1]; list distinct layers, numbered from 1"),
    ({"drop_layers": [0]}, "prune.drop_layers is [0]; list distinct layers, numbered from 1"),
    ({"drop_layers": [2, -1]}, "list distinct layers, numbered from 1"),
    ({"hidden_size": 16, "parallel": {"processes": 2, "tensor": 2}}, "pruning runs only with tensor-, data- and"),
]
TAKEN: list[dict[str, Any]] = [
    {"drop_layers": [1, 2]},
    {"num_layers": 2, "ranking": "random"},
    {"drop_layers": [1], "hidden_size": 16, "ranking": "magnitude"},
    {"num_query_groups": 1},
    {"num_query_groups": 1, "kv_grouping": "adjacent", "kv_merging": "first"},
    {"num_layers": 2, "kv_grouping": "similarity", "kv_merging": "aligned"},
    {"hidden_size": 16, "parallel": {"processes": 2, "pipeline": 2}},
]


@pytest.mark.parametrize(("settings", "told"), REFUSED)
def test_a_cut_that_cannot_be_is_refused(settings: dict[str, Any], told: str) -> None:
    refused(PruneConfig, settings, told)


@pytest.mark.parametrize("settings", TAKEN)
def test_a_cut_that_is_just_possible_is_taken(settings: dict[str, Any]) -> None:
    assert PruneConfig.model_validate(settings)


def test_key_value_heads_are_cut_without_a_ranking() -> None:
    cut = PruneConfig(hidden_size=16, num_experts=3, num_query_groups=1)
    assert cut.ranked == {"hidden_size": 16, "num_experts": 3}
    assert cut.sizes == cut.ranked | {"num_query_groups": 1}
    assert PruneConfig(hidden_size=16).sizes == {"hidden_size": 16}


def test_a_cut_is_made_beside_the_model_it_is_cut_from() -> None:
    numbers = estimate(PruneConfig(num_layers=2, parallel=Parallel(processes=2, pipeline=2)))
    assert (numbers.params, numbers.disk) == (num_params(STUDENT), 2 * num_params(STUDENT))
    assert numbers.job and (numbers.job.spread, numbers.job.where) == ("pipeline", "at")
    assert (numbers.job.parallel.pipeline, numbers.job.shapes) == (2, (TEACHER,))
    peak, half = numbers.job.peak("cpu"), memory.rank_params(TEACHER, Parallel(processes=2, pipeline=2), 1)
    assert (peak.weights, peak.other) == (2 * half, 2 * half + LIBRARIES)
