"""The number that a response gives, and what lm-eval's two filters make of it."""

from __future__ import annotations

import pytest

from jobs.benchmarks.numerals import extract, gsm8k, lm_eval_scores
from jobs.benchmarks.question import Question


@pytest.mark.parametrize(
    ("response", "number"),
    [
        ("so #### 18", "18"),
        ("#### $1,234.50.", "1234.5"),
        ("#### -3", "-3"),
        ("#### -$5", "-5"),
        ("#### $-5", "-5"),
        ("#### -0", "0"),
        ("#### .5", "0.5"),
        ("16-3", "3"),
        ("#### 7 and on #### 8", "7"),
        (r"\boxed{3} then \boxed{1{,}000}", "1000"),
        ("The answer is 4.\nThe answer is 5 apples", "5"),
        ("first 2, then 9", "9"),
        ("4 apples\n\nQuestion: how many of 7?", "4"),
        ("\nQ: 6", "6"),
        ("#### none, but 3", "3"),
        ("none", None),
    ],
)
def test_a_number_is_found_as_it_is_marked(response: str, number: str | None) -> None:
    assert extract(response) == number


def test_a_problem_has_the_number_after_its_mark() -> None:
    question = gsm8k({"question": "How many?", "answer": "2+3=5 so\n#### 1,005"})
    assert (question.gold, question.text) == ("1005", "Question: How many?\nAnswer:")
    with pytest.raises(ValueError, match="no number follows ####"):
        gsm8k({"question": "How many?", "answer": "#### none"})


@pytest.mark.parametrize(
    ("response", "strict", "flexible"),
    [
        ("#### 18", True, True),
        ("it is 18", False, True),
        ("it is $18.", False, True),
        ("$18.00", False, False),
        ("#### 18 or 19", True, False),
        ("#### 17", False, False),
        ("none", False, False),
    ],
)
def test_the_filters_of_lm_eval(response: str, strict: bool, flexible: bool) -> None:
    question = Question(id="1", text="", answer="9+9\n#### 18", gold="18")
    assert lm_eval_scores(question, response) == {"strict": strict, "flexible": flexible}
