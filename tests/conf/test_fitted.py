"""Lengths that are not stated are lowered to what the model can read."""

from __future__ import annotations

from typing import Any

import pytest

from conf.fitted import evaluated, fitted, shorter, verified_within
from conf.load import load
from conf.shape import Shape
from conf.stages.evaluate import EvaluateConfig
from conf.stages.importance import ImportanceConfig
from conf.stages.sweep import SweepConfig
from conf.stages.verify import VerifyConfig
from tests.fixtures.flow import RECIPE

LENGTH = EvaluateConfig().seq_length


@pytest.mark.parametrize(
    ("longest", "length"), [(LENGTH - 1, LENGTH - 1), (LENGTH, LENGTH), (LENGTH + 1, LENGTH), (16, 16)]
)
def test_a_length_is_never_above_what_the_model_reads(longest: int, length: int) -> None:
    assert shorter(EvaluateConfig(), longest).seq_length == length


def test_a_stated_length_stays() -> None:
    assert shorter(EvaluateConfig(seq_length=LENGTH), 16).seq_length == LENGTH


@pytest.mark.parametrize(
    ("longest", "given", "lengths"),
    [
        (1 << 20, {}, None),
        (10, {}, (5, 5)),
        (11, {}, (5, 6)),
        (10, {"new_tokens": 7}, (EvaluateConfig().prompt_tokens, 7)),
    ],
)
def test_generated_text_fits_too(longest: int, given: dict[str, Any], lengths: tuple[int, int] | None) -> None:
    config = EvaluateConfig(**given)
    made = evaluated(config, longest)
    expected = lengths or (config.prompt_tokens, config.new_tokens)
    assert (made.prompt_tokens, made.new_tokens) == expected


def test_what_fits_is_the_same_config() -> None:
    config = EvaluateConfig()
    assert evaluated(config, 1 << 20) is config
    assert shorter(config, LENGTH) is config


def test_an_engine_reads_a_target_and_makes_a_token() -> None:
    config = VerifyConfig()
    assert verified_within(config, 64).seq_length == 62


def test_every_stage_of_a_recipe_is_fitted() -> None:
    plain = load(str(RECIPE))
    unstated = {"verify": VerifyConfig(), "sweep": SweepConfig(), "importance": ImportanceConfig()}
    teacher = Shape(
        num_layers=1,
        hidden_size=8,
        ffn_hidden_size=8,
        num_attention_heads=1,
        num_query_groups=1,
        max_position_embeddings=64,
    )
    made = fitted(plain.model_copy(update=unstated), teacher)
    assert made.verify and made.sweep
    assert (made.verify.seq_length, made.sweep.seq_length, made.importance.seq_length) == (62, 64, 64)
    bare = fitted(plain.model_copy(update=dict.fromkeys(("verify", "sweep", "records"))), teacher)
    assert (bare.verify, bare.sweep, bare.records) == (None, None, None)
