"""Budgets of a search: what they allow, what a shape takes of them, and those that the whole teacher meets."""

from __future__ import annotations

from typing import Any

import pytest

from conf.budgets import budgets, excess, memory_mb
from conf.shape import Shape, cache_bytes, num_params
from conf.stages.search import SearchConfig

SIZES: dict[str, Any] = {
    **{"num_layers": 4, "hidden_size": 32, "ffn_hidden_size": 80, "num_attention_heads": 4},
    **{"num_query_groups": 2, "vocab_size": 100},
}
TEACHER = Shape.model_validate(SIZES)
HALF = Shape.model_validate(SIZES | {"num_layers": 2})
MIXED = Shape.model_validate(SIZES | {"architecture": "qwen3_moe", "num_experts": 8, "experts_per_token": 2})


def asked(**targets: Any) -> SearchConfig:
    return SearchConfig.model_validate(targets)


def test_weights_in_bf16_and_the_cache_by_hand() -> None:
    cached = 2 * 2 * 4 * 2 * 8  # keys and values of two bytes in 4 layers, 2 heads of 8
    assert cache_bytes(TEACHER) == cached
    assert memory_mb(TEACHER, 3, 10) == (2 * num_params(TEACHER) + 30 * cached) / 1e6


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_target_below_one_is_a_share(share: float) -> None:
    (budget,) = budgets("search", asked(target_params=share), TEACHER)
    assert budget.most == share * num_params(TEACHER) and budget.of(HALF) == num_params(HALF)
    assert budget.told == f"{share * num_params(TEACHER):,.0f} parameters" and budget.least(HALF) == ""


@pytest.mark.parametrize("more", [-1, 0])
def test_a_target_of_parameters_is_below_the_teachers(more: int) -> None:
    config = asked(target_params=num_params(TEACHER) + more)
    if more < 0:
        assert budgets("search", config, TEACHER)[0].most == num_params(TEACHER) - 1
        return
    with pytest.raises(ValueError, match=rf"^search\.target_params is .* teacher has {num_params(TEACHER):,} param"):
        budgets("search", config, TEACHER)


def test_the_whole_teacher_is_no_target() -> None:
    with pytest.raises(ValueError, match=r"^s\.target_params is 1 but the teacher has .*; choose less"):
        budgets("s", asked(target_params=1.0), TEACHER)


def test_active_parameters_are_those_a_token_passes() -> None:
    (budget,) = budgets("search", asked(target_active_params=0.5), MIXED)
    passed = num_params(MIXED, active=True)
    assert passed < num_params(MIXED)
    assert (budget.most, budget.of(MIXED)) == (passed / 2, passed)
    assert budget.told == f"{passed / 2:,.0f} active parameters" and budget.least(MIXED) == f", {passed:,} active"
    with pytest.raises(ValueError, match=r"target_active_params is 0\.5 but the teacher is dense"):
        budgets("search", asked(target_active_params=0.5), TEACHER)


def test_memory_counts_the_searchs_own_batch_and_length() -> None:
    whole = memory_mb(TEACHER, 4, 512)
    lengths = {"memory_batch": 4, "memory_length": 512}
    (budget,) = budgets("search", asked(target_memory_mb=whole * 0.9, **lengths), TEACHER)
    assert budget.most == whole * 0.9 and budget.of(HALF) == memory_mb(HALF, 4, 512)
    assert budget.least(HALF) == f", {memory_mb(HALF, 4, 512):,.1f} MB" and budget.told == f"{whole * 0.9} MB"
    with pytest.raises(ValueError, match=r"target_memory_mb is .* but the teacher takes .* MB; choose less"):
        budgets("search", asked(target_memory_mb=whole, **lengths), TEACHER)


def test_bytes_of_cache_are_below_the_teachers() -> None:
    whole = cache_bytes(TEACHER)
    (budget,) = budgets("search", asked(target_cache_bytes=whole - 1), TEACHER)
    assert (budget.most, budget.of(HALF)) == (whole - 1, whole / 2)
    assert budget.told == f"{whole - 1} bytes of KV cache a token"
    assert budget.least(HALF) == f", {whole // 2} bytes of KV cache a token"
    with pytest.raises(ValueError, match=rf"teacher's KV cache takes {whole} bytes a token; choose less"):
        budgets("search", asked(target_cache_bytes=whole), TEACHER)


def test_the_tightest_budget_decides() -> None:
    found = budgets("search", asked(target_params=0.9, target_cache_bytes=cache_bytes(HALF)), TEACHER)
    assert excess(found, HALF) == 1.0
    assert excess(found, TEACHER) == 2.0
