"""What is measured while a student learns, and evaluations that cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.stages.distill import DistillConfig
from conf.stages.evaluate import EvaluateConfig
from tests.fixtures.stages import STEPS


def distill(**settings: Any) -> DistillConfig:
    return DistillConfig.model_validate(STEPS | settings)


EVALUATE = EvaluateConfig.model_validate({"sequences": 7, "mmlu": {"path": "quiz", "limit": 9}, "split": "validation"})


def test_an_evaluation_while_learning_is_the_recipes() -> None:
    assert distill().measured_by(EVALUATE).evaluation is None
    found = distill(evaluate_every=5).measured_by(EVALUATE).evaluation
    assert found and found.mmlu
    assert (found.sequences, found.mmlu.limit, found.new_tokens, found.split) == (7, 9, 0, "test")
    limited = distill(evaluate_every=5, evaluate_limit=3).measured_by(EVALUATE).evaluation
    assert limited and limited.mmlu and limited.mmlu.limit == 3
    own = distill(evaluate_every=5, evaluation={"sequences": 4, "mmlu": None}, evaluate_limit=3)
    measured = own.measured_by(EVALUATE).evaluation
    assert measured and (measured.sequences, measured.mmlu) == (4, None)


def test_no_engine_opens_a_model_that_learns() -> None:
    asked = EvaluateConfig.model_validate({"engine": "vllm", "benchmarks": {"gsm8k": {}}})
    for settings in ({}, {"evaluation": asked}):
        evaluation = distill(evaluate_every=5, **settings).measured_by(asked).evaluation
        assert evaluation and evaluation.engine.name == "simulate"
    assert asked.measured.engine.name == "simulate" and asked.measured.benchmarks == asked.benchmarks


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"keep": "best", "export": "average", "average": {"kind": "ema"}}, "keep is best but export is average"),
        ({"patience": 2, "average": {"kind": "mean", "last": 3}}, "average.kind is mean but patience is 2"),
        ({"evaluation": {}}, "evaluate_limit and evaluation need evaluate_every"),
        ({"best_by": "mmlu", "evaluate_every": 5, "evaluation": {"mmlu": None}}, "evaluation.mmlu is null"),
        ({"evaluate_benchmarks": {"arc_easy": {}}}, "evaluate_benchmarks needs evaluate_every"),
        ({"best_by": "gsm8k"}, "best_by is gsm8k but evaluate_every is empty"),
        ({"best_by": "mmlu"}, "best_by is mmlu but evaluate_every is empty"),
        ({"evaluate_every": 11}, "evaluate_every is 11, more than the 10 steps; choose at most 10"),
        ({"steps": 1, "warmup_steps": 0, "evaluate_every": 2}, "evaluate_every is 2, more than the 1 steps"),
        ({"min_delta": 0.1}, "min_delta is 0.1 but patience is empty"),
        ({"evaluate_limit": 5}, "evaluate_limit and evaluation need evaluate_every"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        distill(**settings)


def test_an_evaluation_after_the_last_step_is_taken() -> None:
    assert distill(evaluate_every=10, evaluation={"mmlu": None}).evaluate_every == 10
    assert distill(patience=2, min_delta=0.1, average={"kind": "ema"}).min_delta == 0.1
    assert distill(evaluate_every=10, best_by="mmlu", keep="best").evaluation is None


def test_a_watched_benchmark_is_asked_as_in_the_report() -> None:
    asks = EvaluateConfig.model_validate(
        {"benchmarks": {"gsm8k": {"max_new_tokens": 40, "chat": "auto", "batch": 3, "samples": 4, "temperature": 1}}}
    )
    watched = distill(evaluate_every=5, evaluate_benchmarks={"gsm8k": {"limit": 8, "batch": 5}}).measured_by(asks)
    assert watched.evaluate_benchmarks["gsm8k"].model_dump() == {
        "limit": 8,
        "max_new_tokens": 40,
        "chat": "auto",
        "batch": 5,
    }
    assert watched.evaluation and watched.evaluation.benchmarks == {}
    assert distill(evaluate_every=5).measured_by(asks).evaluate_benchmarks == {}
