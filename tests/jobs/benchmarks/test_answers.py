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


def options(label: str, endings: int = 4) -> dict[str, object]:
    texts = [f"is {number}" for number in range(endings)]
    return {"ind": 1, "activity_label": "Sun", "ctx_a": "It", "ctx_b": "then", "endings": texts, "label": label}


@pytest.mark.parametrize("label", ["-1", "4"])
def test_a_label_without_its_option_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match=rf"its answer is option {label} of 4"):
        choices.hellaswag(options(label))


@pytest.mark.parametrize("label", ["0", "3"])
def test_the_first_and_the_last_option_may_be_right(label: str) -> None:
    question = choices.hellaswag(options(label))
    assert (question.gold, question.answer, question.chance) == (label, f"is {label}", 1 / 4)
    assert choices.best(question, choices.reference(question).logprobs, by_length=False) == label
    assert choices.reference(question).logprobs[int(label)] == 0


def test_a_gap_is_filled_by_each_option() -> None:
    row = {"sentence": "Ann saw _ there.", "option1": "Eve", "option2": "Bob", "answer": "2"}
    question = choices.winogrande(row)
    assert [(choice.context, choice.continuation) for choice in question.choices] == [
        ("Ann saw Eve", " there."),
        ("Ann saw Bob", " there."),
    ]
    assert (question.answer, question.gold, question.chance) == ("Ann saw Bob there.", "1", 1 / 2)
    assert question.id == "Ann saw _ there. | Eve | Bob"


def pro(answer: str, count: int) -> dict[str, object]:
    base = {"question_id": 7, "question": "q", "category": "law", "cot_content": ""}
    return base | {"options": ["x"] * count, "answer": answer}


def test_up_to_ten_lettered_options() -> None:
    for letter, count in (("A", 1), ("J", 10), ("C", 3)):
        question = letters.mmlu_pro(pro(letter, count))
        assert (question.gold, question.chance) == (letter, 1 / count)
        assert question.text.count(". x\n") == count
    for letter, count in (("A", 0), ("D", 3), ("A", 11)):
        with pytest.raises(ValueError, match=rf"its answer is '{letter}' of {count} options"):
            letters.mmlu_pro(pro(letter, count))


@pytest.mark.parametrize(
    ("reasoning", "answer"), [("", "The answer is (C)."), ("A: Let's think step by step. So (C).", "So (C).")]
)
def test_a_worked_example_reasons_where_it_can(reasoning: str, answer: str) -> None:
    assert letters.mmlu_pro(pro("C", 3) | {"cot_content": reasoning}).answer == answer


def test_a_task_of_mbpp_shows_three_tests_and_runs_all() -> None:
    row = {"task_id": 11, "text": "Add.", "code": "pass", "test_list": ["assert 1", "assert 2", "assert 3", "assert 4"]}
    question = programs.mbpp(row | {"test_setup_code": "import os"})
    assert "assert 3\n[BEGIN]" in question.text and "assert 4" not in question.text
    assert question.tests == "import os\nassert 1\nassert 2\nassert 3\nassert 4"
    assert programs.mbpp(row | {"test_list": ["assert 1"] * 3}).tests.count("assert") == 3
    with pytest.raises(ValueError, match="it has 2 tests where the prompt shows three"):
        programs.mbpp(row | {"test_list": ["assert 1"] * 2})


@pytest.mark.parametrize(("number", "asked"), [(10, False), (11, True), (510, True), (511, False)])
def test_mbpps_test_split_is_500_tasks(number: int, asked: bool) -> None:
    row = {"task_id": number, "text": "Add.", "code": "pass", "test_list": ["assert 1"] * 3}
    assert programs.mbpp_test(programs.mbpp(row)) is asked


@pytest.mark.parametrize(
    ("response", "number"),
    [("It is $-5", "-5"), ("-0", "0"), ("-0.0", "0"), ("0", "0"), ("1200", "1200"), ("#### 2\n\\boxed{3}", "2")],
)
def test_signs_and_zeros_of_a_number(response: str, number: str) -> None:
    assert numerals.extract(response) == number
