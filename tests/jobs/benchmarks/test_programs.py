"""Rows of HumanEval and MBPP as questions, and the program that a response holds."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.benchmarks.programs import extract, humaneval, humaneval_chat, mbpp, mbpp_test, program
from jobs.benchmarks.question import Question

HEAD = 'import math\n\ndef add(a, b):\n    """Sum."""\n'
BODY = "    return a + b\n"
WHOLE = "def add(a, b):\n    return a + b"


def task(tests: int = 3, **given: Any) -> dict[str, Any]:
    listed = [f"assert f({number}) == {number}" for number in range(tests)]
    return {"task_id": 11, "text": "Return it.", "code": "def f(x): return x", "test_list": listed} | given


@pytest.fixture
def head() -> Question:
    row = {"task_id": "HumanEval/0", "prompt": HEAD, "entry_point": "add", "canonical_solution": BODY}
    return humaneval(row | {"test": "def check(f): assert f(1, 2) == 3"})


def test_a_function_is_checked_by_its_name(head: Question) -> None:
    assert head.tests == "def check(f): assert f(1, 2) == 3\ncheck(add)" and (head.entry, head.answer) == ("add", BODY)
    asked, begun = humaneval_chat(head)
    assert HEAD in asked and begun.endswith(f"```python\n{HEAD}\n")


@pytest.mark.parametrize("tests", [3, 4])
def test_three_tests_of_a_task_are_shown_and_all_are_run(tests: int) -> None:
    question = mbpp(task(tests, test_setup_code="x = 1"))
    assert question.text.count("assert") == 3 and question.text.endswith("assert f(2) == 2\n[BEGIN]\n")
    assert question.tests.splitlines() == ["x = 1", *task(tests)["test_list"]]
    assert question.answer == "def f(x): return x\n[DONE]"


def test_a_task_with_two_tests_is_refused() -> None:
    with pytest.raises(ValueError, match="it has 2 tests where the prompt shows three"):
        mbpp(task(2))


@pytest.mark.parametrize(("number", "inside"), [(10, False), (11, True), (510, True), (511, False)])
def test_the_test_split_is_five_hundred_tasks(number: int, inside: bool) -> None:
    assert mbpp_test(mbpp(task(task_id=number))) is inside


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (BODY, HEAD + BODY),
        (WHOLE, f"{HEAD}\n{WHOLE}"),
        (f"Here:\n```python\n{WHOLE}\n```\nand so on", f"{HEAD}\n{WHOLE}"),
        (f"```\nprint(1)\n```\n```python\n{WHOLE}\n```", f"{HEAD}\n{WHOLE}"),
        (f"{BODY}```\nThat is it.", HEAD + BODY),
        (f"```python\n{WHOLE}", f"{HEAD}\n{WHOLE}"),
        ("", None),
        ("``` \n\n```", None),
    ],
)
def test_a_body_completes_the_prompt_and_a_function_follows_it(response: str, code: str | None, head: Question) -> None:
    assert extract(head, response) == code
    assert program(head, response) == (None if code is None else f"{code}\n{head.tests}\n")


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("def f(x): return x\n```\ndone", "def f(x): return x\n"),
        ("Sure:\n```python\ndef f(x): return x\n```", "def f(x): return x"),
        ("  ", None),
    ],
)
def test_a_task_takes_the_code_alone(response: str, code: str | None) -> None:
    assert extract(mbpp(task()), response) == code
