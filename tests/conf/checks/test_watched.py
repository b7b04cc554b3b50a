"""Benchmarks that are asked while a student learns: which cannot be, and what they cost."""

from __future__ import annotations

import pytest

from conf.checks.watched import watched_told
from conf.load import load
from tests.fixtures.flow import RECIPE, told

ASKED = "evaluate.benchmarks={arc_easy: {limit: 40}, gsm8k: {}, mbpp: {}, hellaswag: {}}"
EVERY = "distill.evaluate_every=3"


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("{gsm8k: {}}", "distill.evaluate_benchmarks.gsm8k.limit is empty, but the answers to gsm8k are text"),
        ("{mbpp: {limit: 3}}", "distill.evaluate_benchmarks.mbpp is set, but the answers to mbpp are programs"),
        ("{winogrande: {}}", "distill.evaluate_benchmarks.winogrande is asked but evaluate.benchmarks does not ask it"),
        ("{arc_eas: {}}", "did you mean arc_easy?"),
    ],
)
def test_a_benchmark_that_cannot_be_watched_is_refused(wanted: str, sentence: str) -> None:
    assert sentence in told(ASKED, EVERY, f"distill.evaluate_benchmarks={wanted}")


def test_the_best_is_chosen_by_what_is_asked() -> None:
    sentence = told(ASKED, EVERY, "distill.best_by=gsm8k", "distill.evaluate_benchmarks={arc_easy: {}}")
    assert "distill.best_by is gsm8k but distill.evaluate_benchmarks does not ask it; add it there" in sentence
    load(str(RECIPE), [ASKED, EVERY, "distill.best_by=gsm8k", "distill.evaluate_benchmarks={gsm8k: {limit: 9}}"])


def test_the_questions_on_the_way_are_told() -> None:
    wanted = "{arc_easy: {}, hellaswag: {}, gsm8k: {limit: 9, max_new_tokens: 64}}"
    lines = watched_told(load(str(RECIPE), [ASKED, EVERY, f"distill.evaluate_benchmarks={wanted}"]))
    asked = (
        "40 questions of arc_easy (a pass for each choice), all 10,042 questions of hellaswag (a pass for each choice),"
        " 9 questions of gsm8k (up to 64 tokens for each) each time"
    )
    assert lines == [f"{name} is asked 3 times while it learns: {asked}" for name in ("depth", "width")]
    assert watched_told(load(str(RECIPE), [ASKED, EVERY])) == []
    often = ["distill.evaluate_every=4", "distill.evaluate_benchmarks={gsm8k: {limit: 9}}"]
    first = watched_told(load(str(RECIPE), [ASKED, *often]))[0]
    assert first == (
        "depth is asked 3 times while it learns: 9 questions of gsm8k (as many tokens as lm-eval allows for each) each"
        " time"
    ), "before the first step, after 4 and after the last of 6"
    late = watched_told(load(str(RECIPE), [ASKED, "distill.evaluate_every=5", often[1]]))[0]
    assert late.startswith("depth is asked 3 times"), "before the first step, after 5 and after the last of 6"


@pytest.mark.parametrize("number", [1, 2])
def test_a_round_is_named_by_its_number(number: int) -> None:
    rounds = ["{prune: {num_layers: 3}}", "{prune: {num_layers: 2}}"]
    rounds[number - 1] = rounds[number - 1][:-1] + ", distill: {evaluate_benchmarks: {gsm8k: {}}}}"
    sentence = told(ASKED, EVERY, f"students.depth={{prune: null, rounds: [{', '.join(rounds)}]}}")
    assert sentence.startswith(f"students.depth.rounds.{number}.distill.evaluate_benchmarks.gsm8k.limit is empty")
