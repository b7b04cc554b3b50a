"""Rows of ARC, HellaSwag and WinoGrande as questions, and which of several scored choices is the answer."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.benchmarks.choices import arc, best, hellaswag, reference, winogrande
from jobs.benchmarks.question import Choice, Question

ORIGINAL = {"stem": "Why?", "choices": [{"label": "A", "text": "so"}, {"label": "B", "text": "no"}]}
ON_THE_HUB: dict[str, Any] = {"question": "Why?", "choices": {"label": ["A", "B"], "text": ["so", "no"]}}


@pytest.mark.parametrize("row", [{"question": ORIGINAL}, ON_THE_HUB])
@pytest.mark.parametrize(("key", "gold"), [("A", 0), ("B", 1)])
def test_both_forms_of_arc_are_one_question(row: dict[str, Any], key: str, gold: int) -> None:
    question = arc(row | {"id": "Mercury_1", "answerKey": key})
    assert (question.id, question.text, question.chance) == ("Mercury_1", "Question: Why?\nAnswer:", 1 / 2)
    assert (question.gold, question.answer) == (str(gold), ["so", "no"][gold])
    assert question.choices == (Choice(continuation=" so", text="so"), Choice(continuation=" no", text="no"))


def endings(label: int | str) -> dict[str, Any]:
    row = {"activity_label": "Roof [substeps] work", "ctx_a": "A man sits. [title]", "ctx_b": "he", "ind": 24}
    return row | {"endings": ["is  here.", "[step] goes."], "label": label, "source_id": "v_1"}


@pytest.mark.parametrize("label", [0, "0", 1])
def test_hellaswag_loses_its_markup(label: int | str) -> None:
    """As in lm-eval: a bracket goes, ` [title]` becomes a full stop, two spaces become one."""
    question = hellaswag(endings(label))
    assert question.text == "Roof work: A man sits.. He"
    assert [choice.text for choice in question.choices] == ["is here.", " goes."]
    assert (question.id, question.gold) == ("24:v_1", str(label))


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_ending_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match=f"its answer is option {label} of 2"):
        hellaswag(endings(label))


@pytest.mark.parametrize(("answer", "gold"), [("1", 0), ("2", 1)])
def test_an_option_fills_the_gap_of_winogrande(answer: str, gold: int) -> None:
    row = {"sentence": "Ann met Eva as _ was late.", "option1": "Ann", "option2": "Eva", "answer": answer, "qID": "q"}
    question = winogrande(row)
    assert [choice.context for choice in question.choices] == ["Ann met Eva as Ann", "Ann met Eva as Eva"]
    assert {choice.continuation for choice in question.choices} == {" was late."}
    assert (question.gold, question.chance, question.id) == (str(gold), 0.5, "q")
    assert question.answer == f"Ann met Eva as {['Ann', 'Eva'][gold]} was late."
    assert winogrande(row | {"qID": None}).id == "Ann met Eva as _ was late. | Ann | Eva"


@pytest.mark.parametrize(
    ("logprobs", "by_length", "position"),
    [([-3.0, -4.0], False, "0"), ([-3.0, -4.0], True, "1"), ([-2.0, -2.0], False, "0"), ([-2.0, -4.0], True, "0")],
)
def test_the_best_choice_may_count_by_length(logprobs: list[float], by_length: bool, position: str) -> None:
    """The second text is twice as long; of equal ones the first."""
    choices = tuple(Choice(continuation=text, text=text) for text in ("ab", "abcd"))
    question = Question(id="1", text="", answer="", gold="1", choices=choices)
    assert best(question, logprobs, by_length) == position
    certain = reference(question).logprobs
    assert best(question, certain, by_length) == "1" and certain[1] == 0.0
