"""Settings of long text in an evaluation."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.load import load
from conf.stages.distill import DistillConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.long_text import LongText
from tests.fixtures.flow import RECIPE, told
from tests.fixtures.plans import estimate_of


def test_it_is_part_of_the_key_once_it_is_set() -> None:
    assert "long_text" not in EvaluateConfig().identity()
    assert EvaluateConfig(long_text=LongText(lengths=(256,))).identity()["long_text"]["facts"] == 10


@pytest.mark.parametrize(
    "wrong", [{"lengths": (127,)}, {"lengths": ()}, {"depths": (1.1,)}, {"depths": ()}, {"depths": (-0.1,)}]
)
def test_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LongText.model_validate({"lengths": (128, 256)} | wrong)


@pytest.mark.parametrize("name", ["lengths", "depths"])
def test_values_are_listed_once(name: str) -> None:
    twice = {"lengths": (128,)} | {name: (128, 128) if name == "lengths" else (0.5, 0.5)}
    with pytest.raises(ValidationError, match=rf"long_text\.{name} has duplicate values; list each once"):
        LongText.model_validate(twice)


def test_texts_longer_than_the_model_are_refused() -> None:
    load(str(RECIPE), ["evaluate.long_text.lengths=[128, 256]"])
    sentence = told("evaluate.long_text.lengths=[512, 128]")
    assert "evaluate.long_text.lengths is 512 but the model's maximum sequence length is 256; choose" in sentence


def test_evaluations_in_training_read_none() -> None:
    given: dict[str, Any] = {"steps": 4, "seq_length": 8, "global_batch": 1, "micro_batch": 1, "lr": 1, "min_lr": 0}
    config = DistillConfig.model_validate(given | {"warmup_steps": 0, "evaluate_every": 2})
    evaluation = config.measured_by(EvaluateConfig(long_text=LongText(lengths=(128,)))).evaluation
    assert evaluation and evaluation.long_text is None


def test_a_long_text_may_take_the_most_memory() -> None:
    short, long = (
        estimate_of(load(str(RECIPE), ["evaluate.batch=1", *more]), "evaluate-teacher")
        for more in ([], ["evaluate.long_text.lengths=[256]"])
    )
    assert short.memory and long.memory and short.memory < long.memory
