"""Questions with lettered options: up to ten of them, and the letter that a response names last."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.benchmarks.letters import description, extract, mmlu_pro


def row(options: int, answer: str, reasoning: str = "") -> dict[str, Any]:
    named = {"question_id": 70, "question": "Which?", "category": "law", "cot_content": reasoning}
    return named | {"options": [f"option {number}\n" for number in range(options)], "answer": answer}


@pytest.mark.parametrize(("options", "answer"), [(1, "A"), (4, "D"), (10, "J")])
def test_up_to_ten_options_are_listed(options: int, answer: str) -> None:
    question = mmlu_pro(row(options, answer))
    listed = question.text.split("Options:\n")[1].split("Answer:")[0].splitlines()
    assert listed == [f"{'ABCDEFGHIJ'[number]}. option {number}" for number in range(options)]
    assert (question.id, question.gold, question.group, question.chance) == ("70", answer, "law", 1 / options)
    assert question.answer == f"The answer is ({answer})." and question.text.startswith("Question:\nWhich?\n")
    assert "about law." in description(question)


@pytest.mark.parametrize(("options", "answer"), [(0, "A"), (11, "A"), (4, "E"), (4, "a")])
def test_an_answer_that_is_no_option_is_refused(options: int, answer: str) -> None:
    with pytest.raises(ValueError, match=f"its answer is '{answer}' of {options} options"):
        mmlu_pro(row(options, answer))


def test_worked_examples_keep_their_reasoning() -> None:
    question = mmlu_pro(row(4, "B", "A: Let's think step by step. Since so, the answer is (B)."))
    assert question.answer == "Since so, the answer is (B)."


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("Thus the answer is (C).", "C"),
        ("the answer is A, no: the answer is **B**", "B"),
        (r"so \boxed{\text{(D)}}", "D"),
        ("Answer: E", "E"),
        ("I think\n**F**\n", "F"),
        ("The answer is (C). Answer: D", "C"),
        ("the answer is Anna", None),
        ("the answer is A's", None),
        ("", None),
    ],
)
def test_the_last_letter_counts(response: str, letter: str | None) -> None:
    assert extract(response) == letter
