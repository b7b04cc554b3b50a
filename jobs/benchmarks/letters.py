"""Benchmarks with lettered options where the model reasons and then names a letter."""

from __future__ import annotations

import re

from jobs.benchmarks.question import Question, Row

LETTERS = "ABCDEFGHIJ"
MARKS = (
    re.compile(r"[Aa]nswer\s+is\s*:?\s*\**\(?\s*([A-J])(?![\w'])"),
    re.compile(r"\\boxed\s*\{\s*(?:\\text\s*\{)?\s*\(?([A-J])\)?\s*\}"),
    re.compile(r"[Aa]nswer\s*:\s*\**\(?\s*([A-J])(?![\w'])"),
    re.compile(r"^\s*\**\(?([A-J])\)?[.:]?\**\s*$", re.MULTILINE),
)


def mmlu_pro(row: Row) -> Question:
    """A question of MMLU-Pro: up to ten options, and for worked examples the reasoning in `cot_content`."""
    options = [str(option) for option in row["options"]]
    gold = str(row["answer"])
    if not 1 <= len(options) <= len(LETTERS) or gold not in LETTERS[: len(options)]:
        raise ValueError(f"its answer is {gold!r} of {len(options)} options")
    listed = "".join(f"{letter}. {option.strip()}\n" for letter, option in zip(LETTERS, options, strict=False))
    reasoning = str(row["cot_content"]).replace("A: Let's think step by step. ", "")
    return Question(
        id=str(row["question_id"]),
        text=f"Question:\n{row['question']}\nOptions:\n{listed}Answer: Let's think step by step.",
        answer=reasoning or f"The answer is ({gold}).",
        gold=gold,
        group=str(row["category"]),
        chance=1 / len(options),
    )


def description(question: Question) -> str:
    """lm-eval's instruction before the worked examples of a subject."""
    return (
        f"The following are multiple choice questions (with answers) about {question.group}. Think step by step and"
        ' then finish your answer with "the answer is (X)" where X is the correct letter choice.\n'
    )


def extract(response: str) -> str | None:
    """The last letter that a response gives as its answer; None where it names none."""
    for mark in MARKS:
        if found := mark.findall(response):
            return str(found[-1])
    return None
