"""Which gates can be decided at all, and where a bound that is met exactly stands."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from conf.checks import gates
from conf.gates import Gate


def gate(**settings: Any) -> Gate:
    return Gate.model_validate({"after": "distill", "metric": "mmlu", "against": "teacher", "by": "ratio"} | settings)


ABSOLUTE = {"against": "absolute", "by": None}
DECIDABLE = [
    ({"at_least": 1.5}, "a student may reach one and a half of its teacher"),
    ({"metric": "val_loss", "at_most": 0.5}, "or half its loss"),
    ({"against": "chance", "at_least": 4.0}, "all right is four times chance"),
    ({"against": "chance", "by": "difference", "at_least": 0.75}, "all right is 0.75 above chance"),
    ({"by": "difference", "at_least": 1.0}, "a difference of shares is at most one"),
    ({**ABSOLUTE, "at_least": 1.0}, "a share of one"),
    ({**ABSOLUTE, "metric": "val_loss", "at_most": 0.0}, "a loss of nothing"),
    ({**ABSOLUTE, "metric": "perplexity", "at_most": 1.0}, "a perplexity of one"),
    ({"against": "before", "at_least": 3.0}, "no bound on what a stage may bring"),
    ({"by": "difference", "metric": "val_loss", "at_most": -3.0}, "a loss may fall by any amount"),
    ({"metric": "gsm8k", "at_least": 1.5}, "a benchmark's score is a share as MMLU's"),
    ({"metric": "mmlu_pro", "against": "chance", "at_least": 10.0}, "of ten options one is right"),
    ({"metric": "winogrande", "against": "chance", "by": "difference", "at_least": 0.5}, "of two options"),
]
UNDECIDABLE = [
    ({"at_least": 1.51}, "can never hold"),
    ({"at_least": 0.0}, "always holds"),
    ({"metric": "val_loss", "at_most": 0.49}, "can never hold"),
    ({"against": "chance", "at_least": 4.01}, "can never hold"),
    ({"against": "chance", "by": "difference", "at_least": 0.76}, "can never hold"),
    ({"by": "difference", "at_least": -1.0}, "always holds"),
    ({**ABSOLUTE, "at_least": 1.01}, "can never hold"),
    ({"metric": "gsm8k", "at_least": 1.51}, "can never hold"),
    ({"metric": "mmlu_pro", "against": "chance", "at_least": 10.1}, "can never hold"),
    ({"metric": "winogrande", "against": "chance", "by": "difference", "at_least": 0.51}, "can never hold"),
    ({**ABSOLUTE, "at_least": 0.0}, "always holds"),
    ({**ABSOLUTE, "metric": "val_loss", "at_most": -0.1}, "can never hold"),
    ({**ABSOLUTE, "metric": "perplexity", "at_most": 0.99}, "can never hold"),
]


@pytest.mark.parametrize(("settings", "why"), DECIDABLE, ids=[why for _, why in DECIDABLE])
def test_a_bound_at_its_edge_is_taken(settings: dict[str, Any], why: str) -> None:
    assert gate(**settings).bound == next(settings[name] for name in ("at_least", "at_most") if name in settings)


@pytest.mark.parametrize(("settings", "effect"), UNDECIDABLE)
def test_a_bound_that_decides_nothing_is_refused(settings: dict[str, Any], effect: str) -> None:
    with pytest.raises(ValidationError, match=effect):
        gate(**settings)


WRONG = [
    ({}, "exactly one of at_least and at_most"),
    ({"at_least": 0.9, "at_most": 1.0}, "exactly one of at_least and at_most"),
    ({"at_most": 0.9}, "use at_least"),
    ({"metric": "val_loss", "at_least": 1.1}, "use at_most"),
    ({"against": "absolute", "at_least": 0.5}, "no baseline"),
    ({"by": None, "at_least": 0.5}, "set by"),
    ({"against": "chance", "metric": "agreement_teacher", "at_least": 1.1}, "only mmlu and benchmarks"),
    ({"against": "chance", "metric": "gsm8k", "at_least": 1.1}, "only mmlu and benchmarks"),
    ({"metric": "gsm8k", "at_most": 0.9}, "gsm8k is better when higher: use at_least"),
    ({"metric": "kl_teacher", "at_most": 0.1}, "already compares with the teacher"),
    ({"after": "prune", "against": "before", "at_least": 0.9}, "the model before prune is the teacher"),
    ({"metric": "perplexity", "by": "difference", "at_most": 0.1}, "by difference"),
]


@pytest.mark.parametrize(("settings", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_a_gate_that_means_nothing_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        gate(**settings)


def test_a_bound_met_exactly_holds() -> None:
    least = gate(by="difference", at_least=-0.05)
    assert least.holds(0.85 - 0.9), "-0.05000000000000004 is a rounding, not a loss"
    assert least.holds(-0.05) and not least.holds(-0.050001)
    most = gate(metric="val_loss", by="difference", at_most=0.1)
    assert most.holds(0.3 - 0.2) and most.holds(1.1 - 1.0), "0.10000000000000009"
    assert most.holds(0.1) and not most.holds(0.100001)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"at_least": 0.97}, "mmlu at least 0.97 x the teacher's"),
        ({"by": "difference", "at_least": -0.01}, "mmlu minus the teacher's at least -0.01"),
        ({**ABSOLUTE, "metric": "val_loss", "at_most": 2.5}, "val_loss at most 2.5"),
        ({"against": "chance", "at_least": 1.5}, "mmlu at least 1.5 x chance"),
    ],
)
def test_a_gate_reads_as_a_bound(settings: dict[str, Any], text: str) -> None:
    assert gate(**settings).description == text


Z2 = 1.959964**2


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"against": "chance", "at_least": 2.0}, Z2),  # half of the questions: Wilson's lower end is n / (n + z2)
        ({"against": "chance", "by": "difference", "at_least": 0.25}, Z2),
        ({"metric": "winogrande", "against": "chance", "at_least": 1.5}, 3 * Z2),
        ({"metric": "winogrande", "against": "chance", "by": "difference", "at_least": 0.25}, 3 * Z2),
        ({"against": "chance", "at_least": 4.0}, math.inf),
        ({**ABSOLUTE, "at_least": 0.8}, 4 * Z2),
        ({"by": "difference", "at_least": -0.1}, 9 * Z2),
        ({"by": "difference", "at_least": 0.0}, 0),
        ({"at_least": 0.5}, Z2 / 2),
        ({"at_least": 1.0}, 0),
    ],
)
def test_the_fewest_questions_that_show_a_bound(settings: dict[str, Any], needed: float) -> None:
    assert gates.needed_questions(gate(**settings)) == pytest.approx(needed)


@pytest.mark.parametrize(
    ("number", "rounded"), [(0.2, 1), (9, 9), (99.5, 100), (101, 110), (385, 390), (12_345, 13_000)]
)
def test_numbers_are_rounded_up_to_two_digits(number: float, rounded: int) -> None:
    assert gates.round_up(number) == rounded


def questions(mmlu: dict[str, Any] | None = None, **benchmarks: Any) -> Any:
    settings = {"path": None, "subjects": (), "limit": None} | (mmlu or {})
    evaluate = SimpleNamespace(
        mmlu=SimpleNamespace(**settings),
        benchmarks={name: SimpleNamespace(**{"path": None, "limit": None} | each) for name, each in benchmarks.items()},
    )
    return SimpleNamespace(evaluate=evaluate, data=SimpleNamespace(world=SimpleNamespace(questions=60)))


@pytest.mark.parametrize(
    ("recipe", "metric", "number"),
    [
        (questions(), "mmlu", 14_042),
        (questions({"limit": 5}), "mmlu", 57 * 5),
        (questions({"limit": 5, "subjects": ("law", "physics")}), "mmlu", 10),
        (questions({"limit": 400}), "mmlu", 14_042),
        (questions({"path": "quiz"}), "mmlu", 60),
        (questions(gsm8k={}), "gsm8k", 1_319),
        (questions(gsm8k={"limit": 8}), "gsm8k", 8),
        (questions(gsm8k={"limit": 9_999}, math={}), "gsm8k", 1_319),
        (questions(gsm8k={"path": "mine.jsonl"}), "gsm8k", None),
        (questions(gsm8k={"path": "mine.jsonl", "limit": 8}), "gsm8k", 8),
    ],
)
def test_questions_are_known_before_they_are_read(recipe: Any, metric: str, number: int | None) -> None:
    assert gates._num_questions(recipe, metric) == number
