"""How benchmark questions are taken out of the text that models learn from, in the stages that read text."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from conf.base import Config, Execution
from conf.benchmarks import BenchmarkName
from conf.paths import InputName
from conf.stages.evaluate import Mmlu
from conf.stages.questions import QuestionsConfig

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


class LookedFor(Config):
    """A benchmark whose questions are looked for."""

    path: Annotated[InputName | None, Execution()] = Field(
        default=None, description="File or folder of its questions, as in evaluate.benchmarks; empty: the hub's."
    )
    limit: int | None = Field(
        default=None, ge=1, description="Maximum number of questions, the first ones; empty: all."
    )

    def questions(self, name: BenchmarkName) -> QuestionsConfig:
        """Settings of the stage that reads the questions, which needs no worked examples for this."""
        return QuestionsConfig(benchmark=name, path=self.path, shots=0, limit=self.limit)


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
    benchmarks: Annotated[dict[BenchmarkName, LookedFor], Execution()] = Field(
        default={},
        description="Other benchmarks to look for; leave empty in a recipe: they are those of evaluate.benchmarks.",
    )
