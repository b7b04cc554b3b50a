"""Verdicts on responses of every kind; programs are run by a stand-in for the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.benchmarks import judging
from jobs.benchmarks.question import Choice, Question, Response
from jobs.benchmarks.table import BENCHMARKS
from tests.jobs.benchmarks.test_answers import ADD

OPTIONS = Question(
    id="1",
    text="q",
    answer="a longer one",
    gold="1",
    choices=tuple(Choice(continuation=" ", text="x" * n) for n in (2, 8)),
)


@pytest.mark.parametrize(
    ("logprobs", "whole", "by_length"),
    [((-4.0, -12.0), "0", "1"), ((-4.0, -3.0), "1", "1"), ((-4.0, -17.0), "0", "0"), ((-4.0, -16.0), "0", "0")],
)
def test_choices_are_judged_both_ways(logprobs: tuple[float, float], whole: str, by_length: str) -> None:
    """Each benchmark by its own one."""
    for name, own in (("arc_easy", whole), ("arc_challenge", by_length)):
        (verdict,) = judging.judge(BENCHMARKS[name], [(OPTIONS, Response(logprobs=logprobs))], {}, 1, 0)
        assert (verdict.extracted, verdict.correct) == (own, own == "1")
        assert verdict.others == {"acc": whole == "1", "acc_norm": by_length == "1"}


@pytest.mark.parametrize(
    ("name", "gold", "text", "extracted", "correct"),
    [
        ("mmlu_pro", "B", "The answer is (B).", "B", True),
        ("mmlu_pro", "B", "The answer is (C).", "C", False),
        ("mmlu_pro", "B", "I do not know.", None, False),
        ("gsm8k", "18", "#### 18", "18", True),
        ("gsm8k", "18", "#### 17", "17", False),
        ("math", "\\frac{1}{2}", "It is $\\boxed{0.5}$.", "0.5", True),
        ("math", "\\frac{1}{2}", "It is $\\boxed{2}$.", "2", False),
        ("math", "\\frac{1}{2}", "I do not know.", None, False),
    ],
)
def test_texts_are_compared_with_the_gold(
    name: str, gold: str, text: str, extracted: str | None, correct: bool
) -> None:
    question = Question(id="1", text="q", answer="#### 18", gold=gold)
    (verdict,) = judging.judge(BENCHMARKS[name], [(question, Response(text=text))], {}, 1, 0)
    assert (verdict.extracted, verdict.correct) == (extracted, correct)
    assert verdict.others == ({"strict": correct, "flexible": correct} if name == "gsm8k" else None)


class Sandbox:
    """Passes what has no `bad` in it, and takes a hundredth of a second of its limit."""

    asked: tuple[float, ...] = ()

    def __init__(self, memory: int) -> None:
        assert memory == 7

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def run_all(self, programs: list[tuple[str, float]], workers: int) -> Iterator[Any]:
        Sandbox.asked = tuple(seconds for _, seconds in programs)
        for body, seconds in programs:
            passed = "bad" not in body
            yield SimpleNamespace(passed=passed, reason="" if passed else "it is bad", seconds=seconds / 100)


def test_programs_run_within_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty seconds where the reference has none; a response without code is not run, and keeps its place."""
    monkeypatch.setattr(judging, "Sandbox", Sandbox)
    questions = [replace(ADD, id=name) for name in ("a", "b", "c")]
    texts = ("    return a + b", "  \n", "    return bad")
    pairs = [(question, Response(text=text)) for question, text in zip(questions, texts, strict=True)]
    found = list(judging.judge(BENCHMARKS["humaneval"], pairs, {"a": 5.0}, 1, 7))
    assert Sandbox.asked == (5.0, 30.0)
    assert [(each.correct, each.reason, each.seconds) for each in found] == [
        (True, "", 0.05),
        (False, "no code", 0.0),
        (False, "it is bad", 0.3),
    ]
    assert [each.extracted for each in found] == [ADD.text + texts[0], None, ADD.text + texts[2]]


def test_a_question_whose_reference_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason, or what the reference gives; where none is left, the file is refused."""
    right, wrong = (Question(id=gold, text="q", answer="so\n#### 18", gold=gold) for gold in ("18", "17"))
    checked = judging.check_references(BENCHMARKS["gsm8k"], [right, wrong], 1, 0)
    assert checked.questions == [right] and checked.failed == {"17": "the reference gives 18, not 17"}
    with pytest.raises(ValueError, match=r"no reference solution of gsm8k passes \('17': the reference gives 18"):
        judging.check_references(BENCHMARKS["gsm8k"], [wrong], 1, 0)
    monkeypatch.setattr(judging, "Sandbox", Sandbox)
    bad = replace(ADD, id="b", answer="    return bad")
    checked = judging.check_references(BENCHMARKS["humaneval"], [bad, replace(ADD, id="a")], 1, 7)
    assert checked.failed == {"b": "it is bad"} and checked.seconds == {"a": 3.0}


def test_a_reference_ends_where_a_response_would() -> None:
    question = Question(id="1", text="q", answer="one\n#### 2\nQuestion: another </s>", gold="2")
    assert judging.reference(BENCHMARKS["gsm8k"], question).text == "one\n#### 2\n"
    assert judging.reference(BENCHMARKS["arc_easy"], OPTIONS).logprobs[1] == 0


@pytest.mark.parametrize(("used", "limit"), [(0.1, 3), (0.75, 3), (0.8, 3.2), (5, 20)])
def test_a_program_may_take_four_times_its_reference(
    used: float, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = judging.Verdict(correct=True, extracted="x", seconds=used)
    monkeypatch.setattr(judging, "judge", lambda *_: iter([verdict]))
    checked = judging.check_references(BENCHMARKS["humaneval"], [ADD], 1, 1)
    assert checked.seconds == {ADD.id: pytest.approx(limit)} and checked.failed == {}
    assert judging.check_references(BENCHMARKS["gsm8k"], [ADD], 1, 1).seconds == {}


def test_shares_of_further_scores_are_of_all_responses() -> None:
    verdicts = [
        judging.Verdict(correct=True, extracted="1", others={"acc": first, "acc_norm": second})
        for first, second in ((True, True), (False, True), (False, False), (False, True))
    ]
    assert judging.shares_of_others(verdicts) == {"acc": 1 / 4, "acc_norm": 3 / 4}
    assert judging.shares_of_others([judging.Verdict(correct=True, extracted="1")]) == {}
