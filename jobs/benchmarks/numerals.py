"""Benchmarks with a number as the answer, found in the model's text."""

from __future__ import annotations

import re
from decimal import Decimal

from jobs.benchmarks.question import Question, Row

NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)\]])-\s?)?(?:\$\s?(?P<inner>-)?)?(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|\.\d+)"
)
"""18, -3, $1,234.50, .5; the minus of `16-3` is not a sign."""
NEXT_QUESTION = re.compile(r"\n\s*(?:Question|Q|Problem):")
"""Where a base model goes on to invent the next question."""
MARKS = (
    re.compile(r"####(?P<answer>[^\n]*)"),
    re.compile(r"\\boxed\s*\{(?P<answer>(?:[^{}]|\{[^{}]*\})*)\}"),
    re.compile(r"[Aa]nswer(?:\s+is)?\s*:?\s*(?P<answer>[^\n]*)"),
)
STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
"""The two filters of lm-eval's gsm8k, for comparison with published scores."""


def gsm8k(row: Row) -> Question:
    """A problem of GSM8K: the reference ends with `#### number`."""
    answer = str(row["answer"])
    gold = extract(answer[answer.index("####") :])
    if gold is None:
        raise ValueError("no number follows #### in its answer")
    text = str(row["question"])
    return Question(id=text, text=f"Question: {text}\nAnswer:", answer=answer, gold=gold)


def extract(response: str) -> str | None:
    """The number a response gives as its answer, without currency, separators and needless zeros: after ####, in
    \\boxed, after `answer is`, else its last number. None where it has none."""
    text = response.replace("\N{MINUS SIGN}", "-").replace("{,}", ",").replace("\\,", "").replace("\\$", "$")
    following = NEXT_QUESTION.search(text, len(text) - len(text.lstrip()))
    text = text[: following.start()] if following else text
    for mark in MARKS:
        found = [match for match in mark.finditer(text) if NUMBER.search(match["answer"])]
        if found:  # a text that rambles on after #### repeats the mark; a calculation ends with its last box
            return _plain(NUMBER.search((found[0] if mark is MARKS[0] else found[-1])["answer"]))
    return _plain(max(NUMBER.finditer(text), key=lambda match: match.start(), default=None))


def _plain(match: re.Match[str] | None) -> str | None:
    if match is None:
        return None
    value = Decimal(match["digits"].replace(",", "")).normalize()
    return f"{-value if value and (match['sign'] or match['inner']) else value:f}"


def lm_eval_scores(question: Question, response: str) -> dict[str, bool]:
    """What lm-eval's two filters of gsm8k make of a response: they refuse some right answers, such as `$18.00.`."""
    gold = _lm_eval_form(question.answer)
    strict = STRICT.search(response)
    numbers = FLEXIBLE.findall(response)
    flexible = next((group for group in numbers[-1] if group), "[invalid]").strip() if numbers else "[invalid]"
    return {
        "strict": _lm_eval_form(strict[1].strip() if strict else "[invalid]") == gold,
        "flexible": _lm_eval_form(flexible) == gold,
    }


def _lm_eval_form(text: str) -> str:
    for pattern in (",", r"\$", r"(?s).*#### ", r"\.$"):
        text = re.sub(pattern, "", text)
    return text.lower()
