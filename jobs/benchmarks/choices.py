"""Benchmarks whose options are scored after the question: the option with the highest log probability is the answer."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jobs.benchmarks.question import Choice, Question, Response, Row


def arc(row: Row) -> Question:
    """A question of ARC, as AI2 published it (`question.stem`, `question.choices`) or as on the hub."""
    if isinstance(row["question"], dict):
        stem = str(row["question"]["stem"])
        labels = [str(choice["label"]) for choice in row["question"]["choices"]]
        texts = [str(choice["text"]) for choice in row["question"]["choices"]]
    else:
        stem = str(row["question"])
        labels, texts = (
            [str(label) for label in row["choices"]["label"]],
            [str(text) for text in row["choices"]["text"]],
        )
    right = labels.index(str(row["answerKey"]))
    return _question(str(row["id"]), f"Question: {stem}\nAnswer:", texts, right)


def hellaswag(row: Row) -> Question:
    """A context of HellaSwag with four endings; the original's labels are numbers, the hub's are strings."""
    context = f"{row['ctx_a']} {str(row['ctx_b']).capitalize()}"
    endings = [_without_markup(str(ending)) for ending in row["endings"]]
    text = _without_markup(f"{row['activity_label']}: {context}")
    return _question(f"{row['ind']}:{row.get('source_id', '')}", text, endings, int(row["label"]))


def winogrande(row: Row) -> Question:
    """A sentence of WinoGrande with a gap: each option fills it, and the rest of the sentence is scored."""
    sentence = str(row["sentence"])
    gap = sentence.index("_")
    rest = sentence[gap + 1 :].strip()
    options = [str(row["option1"]), str(row["option2"])]
    right = ["1", "2"].index(str(row["answer"]))
    choices = tuple(Choice(context=sentence[:gap] + option, continuation=f" {rest}", text=option) for option in options)
    identity = str(row.get("qID") or f"{sentence} | {options[0]} | {options[1]}")
    answer = f"{choices[right].context} {rest}"
    return Question(id=identity, text="", answer=answer, gold=str(right), choices=choices, chance=1 / len(choices))


def _question(identity: str, text: str, options: list[str], right: int) -> Question:
    if not 0 <= right < len(options):
        raise ValueError(f"its answer is option {right} of {len(options)}")
    choices = tuple(Choice(continuation=f" {option}", text=option) for option in options)
    return Question(
        id=identity, text=text, answer=options[right], gold=str(right), choices=choices, chance=1 / len(options)
    )


def _without_markup(text: str) -> str:
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def reference(question: Question) -> Response:
    """The response of a model that is certain of the right choice."""
    return Response(logprobs=tuple(0.0 if str(n) == question.gold else -1e9 for n in range(len(question.choices))))


def best(question: Question, logprobs: Iterable[float], by_length: bool) -> str:
    """Position of the best choice, as text; of equal ones the first."""
    values = [
        logprob / len(choice.text) if by_length else logprob
        for logprob, choice in zip(logprobs, question.choices, strict=True)
    ]
    return str(values.index(max(values)))
