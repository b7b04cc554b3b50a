"""How benchmark questions are taken out of the text that models learn from, in the stages that read text."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from conf.base import Config
from conf.stages.evaluate import Mmlu

QUESTION = re.compile(r"[^/\s]+/\d+")
DOCUMENT = re.compile(r"[0-9a-f]{16}")


def _entry(entry: str) -> str:
    if not QUESTION.fullmatch(entry) and not DOCUMENT.fullmatch(entry):
        raise ValueError(
            f"{entry!r} is neither a question (subject or benchmark, slash, its number from 0, as in gsm8k/12) nor a"
            " document (the 16 digits after digest in matches.jsonl)"
        )
    return entry


Reviewed = Annotated[
    tuple[Annotated[str, AfterValidator(_entry)], ...],
    Field(
        description=(
            "What a person has looked at and allows: questions, as in gsm8k/12, which are not looked for, and documents"
            " and records by digest, which stay as they are. matches.jsonl and decontaminated.jsonl name both."
        )
    ),
]
MinCoverage = Annotated[
    float,
    Field(
        gt=0,
        le=1,
        description=(
            "Share of a question's words, in runs of five close together, from which it counts as found in a document."
        ),
    ),
]


class Decontaminate(Config):
    """Takes benchmark questions out of training text. In a recipe it is filled in from contamination."""

    action: Literal["drop", "cut"] = Field(
        default="drop",
        description=(
            "drop: leave out documents that contain a question; cut: take the passage out of documents, and leave out"
            " those of which little remains. Records, prompts and answers are always left out."
        ),
    )
    min_coverage: MinCoverage = 0.5
    reviewed: Reviewed = ()
    mmlu: Mmlu | None = Field(default=None, description="Multiple-choice questions to look for; null: none.")
