"""Benchmarks with a program as the answer, which must pass tests."""

from __future__ import annotations

import re

from jobs.benchmarks.question import Question, Row

FENCED = re.compile(r"```[ \t]*(?:\w+)?[ \t]*\r?\n(.*?)(?:\r?\n)?[ \t]*(?:```|\Z)", re.DOTALL)
MBPP_TEST_IDS = range(11, 511)


def humaneval(row: Row) -> Question:
    """A function of HumanEval: its head and docstring are the prompt, its body the answer."""
    prompt, entry = str(row["prompt"]), str(row["entry_point"])
    return Question(
        id=str(row["task_id"]),
        text=prompt,
        answer=str(row["canonical_solution"]),
        tests=f"{row['test']}\ncheck({entry})",
        entry=entry,
    )


def humaneval_chat(question: Question) -> tuple[str, str]:
    """The words of lm-eval's humaneval_instruct."""
    return (
        "Write a solution to the following problem and make sure that it passes the tests:\n"
        f"```python\n{question.text}\n```\n",
        f"Here is the completed function:\n```python\n{question.text}\n",
    )


def mbpp(row: Row) -> Question:
    """A task of MBPP: a sentence and three tests."""
    tests = [str(test) for test in row["test_list"]]
    if len(tests) < 3:
        raise ValueError(f"it has {len(tests)} tests where the prompt shows three")
    text = (
        f"You are an expert Python programmer, and here is your task: {row['text']} Your code should pass these"
        " tests:\n\n" + "\n".join(tests[:3]) + "\n[BEGIN]\n"
    )
    return Question(
        id=str(row["task_id"]),
        text=text,
        answer=f"{row['code']}\n[DONE]",
        tests="\n".join([str(row.get("test_setup_code") or ""), *tests]),
    )


def mbpp_test(question: Question) -> bool:
    """Whether a task is one of the 500 of the test split; the original file holds all splits."""
    return int(question.id) in MBPP_TEST_IDS


def extract(question: Question, response: str) -> str | None:
    """The program of a response, to be followed by the tests; None where it has no code.

    Code in a fence counts alone, unless the response begins as code and a fence only ends it. A body completes the
    prompt; a whole function stands after it: the prompt's own function, which has only a docstring, is replaced and
    its imports stay."""
    before, fenced = response.partition("```")[0], FENCED.findall(response)
    defining = [code for code in fenced if not question.entry or re.search(rf"def\s+{question.entry}\b", code)]
    begins_as_code = re.match(r"\s*\n?[ \t]+\S" if question.entry else r"\s*(?:def|class|import|from|@)\b", before)
    code = before if begins_as_code else (defining or fenced or [before])[0]
    if not code.strip():
        return None
    if not question.entry:
        return code
    whole = re.search(rf"^(?:async\s+)?def\s+{question.entry}\b", code, re.MULTILINE)
    return question.text + (f"\n{code}" if whole else code)


def program(question: Question, response: str) -> str | None:
    """The program of a response with its tests; None where it has no code."""
    code = extract(question, response)
    return None if code is None else f"{code}\n{question.tests}\n"
