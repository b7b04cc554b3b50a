"""What is measured while a student learns, and evaluations that cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.stages.distill import DistillConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.search import Halving
from conf.stages.trunk import TrunkConfig
from tests.conf.stages.test_refusals import STEPS


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
        ({"begun": 10}, "begun is 10 but steps is 10; leave begun out"),
        ({"offline": True, "top_k": 4, "best_by": "val_loss", "intermediate": {}}, "intermediate"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        distill(**settings)


def test_an_evaluation_after_the_last_step_is_taken() -> None:
    assert distill(evaluate_every=10, evaluation={"mmlu": None}).evaluate_every == 10
    assert distill(patience=2, min_delta=0.1, average={"kind": "ema"}).min_delta == 0.1
    assert distill(evaluate_every=10, best_by="mmlu", keep="best").evaluation is None
    assert distill(begun=9).own_steps == 1
    assert distill(begun=9).own_tokens == 8 * 16
    assert distill(begun=9).tokens == 10 * 8 * 16, "the tokens that the student has seen"


@pytest.mark.parametrize(("begun", "until", "taken"), [(0, 1, True), (2, 9, True), (2, 2, False), (2, 10, False)])
def test_a_trunk_ends_before_its_run(begun: int, until: int, taken: bool) -> None:
    settings = STEPS | {"begun": begun, "until": until}
    if taken:
        assert TrunkConfig.model_validate(settings).own_steps == until - begun
    else:
        with pytest.raises(ValidationError, match=f"until is {until}; choose one above {begun} and below steps 10"):
            TrunkConfig.model_validate(settings)


@pytest.mark.parametrize(("top_k", "most"), [(2, 1), (4, 2), (5, 3), (8, 3)])
def test_halving_has_no_round_of_one(top_k: int, most: int) -> None:
    assert Halving(top_k=top_k, rounds=most).rounds == most
    assert len(Halving(top_k=top_k).sizes(100)) == most
    with pytest.raises(ValidationError, match=f"need only {most}; choose at most {most}"):
        Halving(top_k=top_k, rounds=most + 1)


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
