"""Settings of a search: its budget, and the rounds in which the better half of its candidates goes on."""

from __future__ import annotations

from typing import Any

import pytest

from conf.stages.search import Halving, SearchConfig
from tests.fixtures.stages import refused


@pytest.mark.parametrize(("top_k", "most"), [(2, 1), (4, 2), (5, 3), (8, 3)])
def test_halving_has_no_round_of_one(top_k: int, most: int) -> None:
    assert Halving(top_k=top_k, rounds=most).rounds == most
    assert len(Halving(top_k=top_k).sizes(100)) == most
    told = f"rounds is {most + 1} but {top_k} candidates need only {most}; choose at most {most}"
    refused(Halving, {"top_k": top_k, "rounds": most + 1}, told)


@pytest.mark.parametrize(
    ("top_k", "rounds", "candidates", "sizes"),
    [
        (4, None, 9, [4, 2]),
        (5, None, 9, [5, 3, 2]),
        (4, 1, 9, [4]),
        (5, 2, 9, [5, 3]),
        (4, None, 3, [3, 2]),
        (1, None, 9, []),
        (4, None, 1, []),
    ],
)
def test_half_of_a_round_goes_on(top_k: int, rounds: int | None, candidates: int, sizes: list[int]) -> None:
    assert Halving(top_k=top_k, rounds=rounds).sizes(candidates) == sizes


NONE = "search has no budget; set target_params, target_active_params, target_memory_mb or target_cache_bytes"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, NONE),
        ({"target_params": 0.5, "axes": []}, "search.axes is []; list distinct axes, or leave it empty for all"),
        ({"target_params": 0.5, "axes": ["num_layers", "num_layers"]}, "search.axes is ['num_layers', 'num_layers']"),
        (
            {"target_params": 0.5, "candidates": 3, "halving": {"top_k": 4}},
            "search.halving.top_k is 4 but search.candidates is 3; choose at most 3",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused(settings: dict[str, Any], told: str) -> None:
    refused(SearchConfig, settings, told)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_params": 0.5},
        {"target_memory_mb": 9, "axes": ["num_layers"]},
        {"target_cache_bytes": 9, "axes": None},
        {"target_active_params": 0.5, "candidates": 4, "halving": {"top_k": 4}},
    ],
)
def test_one_budget_is_enough(settings: dict[str, Any]) -> None:
    assert SearchConfig.model_validate(settings)
