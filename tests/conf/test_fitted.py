"""Lengths that are not stated are lowered to what the model can read."""

from __future__ import annotations

from typing import Any

import pytest

from conf.fitted import evaluated, shorter, verified_within
from conf.stages.evaluate import EvaluateConfig
from conf.stages.verify import VerifyConfig

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
    fitted = evaluated(config, longest)
    expected = lengths or (config.prompt_tokens, config.new_tokens)
    assert (fitted.prompt_tokens, fitted.new_tokens) == expected


def test_what_fits_is_the_same_config() -> None:
    config = EvaluateConfig()
    assert evaluated(config, 1 << 20) is config


def test_an_engine_reads_a_target_and_makes_a_token() -> None:
    config = VerifyConfig()
    assert verified_within(config, 64).seq_length == 62
