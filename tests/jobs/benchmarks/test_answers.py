"""What is extracted from an answer, and what counts as right: good answers in many forms, and the usual traps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.benchmarks import choices, letters, numerals, programs
from jobs.benchmarks.table import BENCHMARKS


@pytest.mark.parametrize(
    ("response", "number"),
    [
        ("She makes 18 dollars.\n#### 18", "18"),
        ("#### 18 dollars in 7 days", "18"),
        ("#### $18.00.", "18"),
        ("The answer is $18.00.", "18"),
        ("The answer is 18", "18"),
        ("**Answer:** 18", "18"),
        ("so \\boxed{18}", "18"),
        ("so $\\boxed{\\$1{,}234}$.", "1234"),
        ("\\boxed{18\\text{ eggs}} as 3 + 15 = 18", "18"),
        ("\\boxed{3} of them, in all \\boxed{18}", "18"),
        ("It is 1,234 in all.", "1234"),
        ("It is 1,234.50", "1234.5"),
        ("It is .5 of it", "0.5"),
        ("Eggs 1,2 and 3", "3"),
        ("16-3", "3"),
        ("It is -3", "-3"),
        ("It is \N{MINUS SIGN}3 degrees", "-3"),
        ("It is -$5", "-5"),
        ("It is 18%.", "18"),
        ("It is 18.0", "18"),
        ("#### 5\n\nQuestion: next?\nAnswer: 7\n#### 7", "5"),
        ("#### 5\n#### 7", "5"),
        ("The answer is 5.\n\nQ: next\nA: The answer is 7.", "5"),
        ("The answer is clear: 4 + 1 = 5", "4"),
        ("#### ", None),
        ("I do not know.", None),
        ("", None),
    ],
)
def test_the_number_of_an_answer(response: str, number: str | None) -> None:
    assert numerals.extract(response) == number


def test_lm_evals_filters_refuse_good_answers() -> None:
    question = numerals.gsm8k({"question": "q", "answer": "so\n#### 18"})
    scores = {
        text: numerals.lm_eval_scores(question, text) for text in ("The answer is $18.00.", "\\boxed{18}", "#### 18")
    }
    assert list(scores.values()) == [
        {"strict": False, "flexible": False},
        {"strict": False, "flexible": True},
        {"strict": True, "flexible": True},
    ]


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("It follows. The answer is (B).", "B"),
        ("The answer is B", "B"),
        ("the answer is: **C**", "C"),
        ("Answer: D", "D"),
        ("so \\boxed{B}", "B"),
        ("so \\boxed{\\text{(J)}}", "J"),
        ("The answer is (A)? No. The answer is (B).", "B"),
        ("B", "B"),
        ("(B)", "B"),
        ("**B.**", "B"),
        ("The answer is All of them", None),
        ("The answer is I'm not sure", None),
        ("A man went home", None),
        ("", None),
    ],
)
def test_the_letter_of_an_answer(response: str, letter: str | None) -> None:
    assert letters.extract(response) == letter


ADD = programs.humaneval(
    {
        "task_id": "T/0",
        "prompt": 'from typing import List\n\n\ndef add(a, b):\n    """Adds."""\n',
        "entry_point": "add",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    }
)
TASK = programs.mbpp(
    {"task_id": 11, "text": "Add.", "code": "def add(a, b): return a + b", "test_list": ["assert add(1, 2) == 3"] * 3}
)


def passes(program: str | None) -> bool:
    assert program is not None
    try:
        exec(program, {})
    except Exception:  # noqa: BLE001 - whatever it raises, it has not passed
        return False
    return True


@pytest.mark.parametrize(
    "response",
    [
        "    return a + b\n",
        "    return a + b\n```\nThis adds them.",
        "```python\n    return a + b\n```",
        "```python\ndef add(a, b):\n    return a + b\n```",
        "Here you are:\n\n```python\ndef add(a, b):\n    return plus(a, b)\n\ndef plus(a, b):\n    return a + b\n```"
        "\nUse it so:\n```python\nadd(1, 2)\n```",
        "```\nprint('first')\n```\n```py\ndef add(a, b):\n    return a + b\n```",
        "```python\ndef add(a: List, b):\r\n    return a + b",
        "def add(a, b):\n    return a + b",
    ],
)
def test_a_function_is_found_in_an_answer(response: str) -> None:
    assert passes(programs.program(ADD, response))


@pytest.mark.parametrize("response", ["def add(a, b): return a + b", "```python\ndef add(a, b):\n  return a + b\n```"])
def test_a_program_is_found_in_an_answer(response: str) -> None:
    assert passes(programs.program(TASK, response))


def test_a_wrong_body_fails_its_tests() -> None:
    assert not passes(programs.program(ADD, "    return a - b\n"))
    assert programs.program(ADD, "  \n") is None
    assert programs.program(TASK, "``` ```") is None


def test_long_choices_are_not_at_a_disadvantage() -> None:
    question = choices.arc(
        {"id": "1", "question": "q", "choices": {"label": ["1", "2"], "text": ["no", "a longer one"]}, "answerKey": "2"}
    )
    assert question.gold == "1"
    assert choices.best(question, (-4.0, -12.0), by_length=False) == "0"
    assert choices.best(question, (-4.0, -12.0), by_length=True) == "1"
    assert choices.best(question, (-4.0, -4.0), by_length=False) == "0", "of equal ones the first, as lm-eval"


def test_every_reference_of_gsm8k_is_right(shared_data: Path) -> None:
    rows = [json.loads(line) for line in (shared_data / "gsm8k" / "test.jsonl").read_text().splitlines()]
    questions = [BENCHMARKS["gsm8k"].parse(row) for row in rows]
    assert len(questions) == 989
    for question in questions:
        assert numerals.extract(question.answer) == question.gold
        assert numerals.extract(f"So the answer is ${question.gold}.00.") == question.gold
        assert numerals.lm_eval_scores(question, question.answer) == {"strict": True, "flexible": True}
