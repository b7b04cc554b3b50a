"""Which form is asked which question, and how its answer is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.analysis.scaling.answers import Answer, Best, Beyond
from tasks.analysis.scaling.questions import Asked, _count, questions

LONGEST = 2e9


def oracle(name: str, asked: list[tuple[Any, ...]]) -> Any:
    """Notes what it is asked, and answers each time the same."""
    some = Answer(value=2.5, low=2.25, high=3.0)
    size = Answer(value=3e9, low=2e6, high=float("inf"))
    best = Best(params=size, tokens=1.5e12, loss=some, flops=1.25e21)

    def answers(question: str, answer: Any) -> Any:
        return lambda *given: (asked.append((name, question, *given)), answer)[1]

    return SimpleNamespace(
        ladder=SimpleNamespace(tokens=np.array([1e9, LONGEST, 5e8])),
        loss=answers("loss", some),
        tokens=answers("tokens", size),
        params=answers("params", size),
        tokens_of=answers("tokens_of", 4e9),
        best_for=answers("best_for", best),
        cheapest=answers("cheapest", best),
    )


@pytest.mark.parametrize(
    ("given", "of", "sentence"),
    [
        (
            {"params": 3e9, "tokens": 1e9},
            [("all", "loss", 3e9, 1e9)],
            "3 B parameters on 1 B tokens reach loss 2.5 (95% 2.25 to 3)",
        ),
        (
            {"params": 3e9},
            [("longest", "loss", 3e9, LONGEST)],
            "3 B parameters on 2 B tokens reach loss 2.5 (95% 2.25 to 3)",
        ),
        (
            {"loss": 2.5, "params": 5e6},
            [("all", "tokens", 5e6, 2.5)],
            "5 M parameters reach loss 2.5 after 3 B (95% 2 M to without bound) tokens",
        ),
        (
            {"loss": 2.5, "tokens": 1e9},
            [("all", "params", 1e9, 2.5)],
            "loss 2.5 on 1 B tokens takes 3 B (95% 2 M to without bound) parameters",
        ),
        (
            {"loss": 2.5},
            [("all", "cheapest", 2.5)],
            "loss 2.5 is cheapest with 3 B (95% 2 M to without bound) parameters on 1.5 T tokens: 1.25e+21 FLOPs",
        ),
        (
            {"budget": 1e21},
            [("all", "best_for", 1e21)],
            "1e+21 FLOPs are best spent on 3 B (95% 2 M to without bound) parameters on 1.5 T tokens: loss 2.5"
            " (95% 2.25 to 3)",
        ),
        (
            {"budget": 1e21, "params": 3e9},
            [("all", "tokens_of", 1e21, 3e9), ("all", "loss", 3e9, 4e9)],
            "1e+21 FLOPs buy 4 B tokens: 3 B parameters on 4 B tokens reach loss 2.5 (95% 2.25 to 3)",
        ),
    ],
)
def test_what_is_asked_is_told_in_a_sentence(given: dict[str, float], of: list[Any], sentence: str) -> None:
    asked: list[tuple[Any, ...]] = []
    found = questions(Asked(**given), oracle("all", asked), oracle("longest", asked), "none")
    assert [question() for question in found] == [sentence]
    assert asked == of


def test_a_budget_and_a_loss_are_two_questions() -> None:
    asked: list[tuple[Any, ...]] = []
    found = questions(Asked(budget=1e21, loss=2.5), oracle("all", asked), oracle("longest", asked), "none")
    assert len([question() for question in found]) == 2 and [one[1] for one in asked] == ["best_for", "cheapest"]
    assert questions(Asked(), None, oracle("longest", asked), "none") == []


@pytest.mark.parametrize(("factor", "form"), [(1.0, "longest"), (1.015, "longest"), (1.03, "all")])
@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("given", [{"params": 1e9}, {"loss": 2.5}])
def test_lengths_within_two_percent_are_the_longest(
    factor: float, form: str, less: bool, given: dict[str, float]
) -> None:
    asked: list[tuple[Any, ...]] = []
    tokens = LONGEST / factor if less else LONGEST * factor
    questions(Asked(tokens=tokens, **given), oracle("all", asked), oracle("longest", asked), "none")[0]()
    assert asked[0][0] == form


def test_other_lengths_are_refused_without_a_general_form() -> None:
    (question,) = questions(Asked(params=1e9, tokens=1e9), None, oracle("longest", []), "only the longest")
    with pytest.raises(Beyond, match=r"^only the longest$"):
        question()


@pytest.mark.parametrize(
    ("value", "text"),
    [(999_999, "999,999"), (1e6, "1 M"), (2.5e8, "250 M"), (1e9, "1 B"), (1.4e12, "1.4 T"), (1e12, "1 T")],
)
def test_large_numbers_have_a_unit(value: float, text: str) -> None:
    assert _count(value) == text
