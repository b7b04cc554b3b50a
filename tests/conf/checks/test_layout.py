"""A layout divides a model and its sequences, or the sentence says what would."""

from __future__ import annotations

from typing import Any

import pytest

from conf.checks.layout import check_layout
from conf.parallel import Parallel
from conf.shape import Shape

SHAPE = Shape(
    num_layers=6, hidden_size=64, ffn_hidden_size=96, num_attention_heads=8, num_query_groups=4, vocab_size=256
)


def check(tokens: int | None = None, shape: Shape = SHAPE, **layout: Any) -> None:
    processes = layout.get("tensor", 1) * layout.get("pipeline", 1) * layout.get("context", 1)
    check_layout("at", Parallel(processes=processes, **layout), shape, tokens=tokens, whose=" of it")


@pytest.mark.parametrize("axis", ["num_attention_heads", "num_query_groups", "ffn_hidden_size", "vocab_size"])
def test_tensor_ranks_share_every_width(axis: str) -> None:
    check(tensor=4, shape=SHAPE.model_copy(update={axis: 12}))
    with pytest.raises(ValueError, match=rf"at\.tensor is 4, which does not divide {axis} 6 of it; choose a divisor"):
        check(tensor=4, shape=SHAPE.model_copy(update={axis: 6}))


def test_an_unknown_vocabulary_is_not_divided() -> None:
    check(tensor=4, shape=SHAPE.model_copy(update={"vocab_size": None}))


def test_pipeline_stages_share_the_layers() -> None:
    check(pipeline=3)
    with pytest.raises(ValueError, match=r"at\.pipeline is 4, which does not divide 6 layers of it"):
        check(pipeline=4)


@pytest.mark.parametrize(("context", "tokens", "choice"), [(2, 6, 4), (2, 3, 4), (3, 100, 96)])
def test_context_ranks_take_two_parts_each(context: int, tokens: int, choice: int) -> None:
    with pytest.raises(ValueError, match=f"is not a multiple of {2 * context} .*; choose {choice}"):
        check(tokens, context=context)
    check(2 * context, context=context)


def test_one_context_rank_takes_any_length() -> None:
    check(7)
    check(7, tensor=2)


@pytest.mark.parametrize(("context", "tokens", "parts"), [(1, 10, 4), (2, 12, 8)])
def test_sequence_parallelism_splits_tokens_evenly(context: int, tokens: int, parts: int) -> None:
    check(2 * parts, tensor=4, context=context, sequence=True)
    check(tokens, tensor=4, context=context)
    with pytest.raises(ValueError, match=rf"at\.sequence is true .*; choose a multiple of {parts}"):
        check(tokens, tensor=4, context=context, sequence=True)


MIXED = SHAPE.model_copy(update={"architecture": "qwen3_moe", "num_experts": 6, "experts_per_token": 2})


def test_expert_ranks_divide_the_experts() -> None:
    for size in (1, 2, 3, 6):
        check_layout("at", Parallel(processes=size, expert=size), MIXED)
    with pytest.raises(ValueError, match=r"at\.expert is 4, which does not divide num_experts 6 of it; choose a div"):
        check_layout("at", Parallel(processes=4, expert=4), MIXED, whose=" of it")


def test_a_dense_model_has_no_experts_to_divide() -> None:
    with pytest.raises(ValueError, match=r"at\.expert is 2 but the model of it has no experts to divide; remove it"):
        check_layout("at", Parallel(processes=2, expert=2), SHAPE, whose=" of it")


def test_lengths_of_no_sequences_are_not_asked() -> None:
    check(None, context=2)
