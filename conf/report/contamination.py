"""Benchmark questions that occur in the training text."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Interval


class CleanScore(Config):
    """A model's score on one benchmark without the questions that occur in the training text."""

    benchmark: str = Field(default="mmlu", description="Name of the benchmark.")
    model: str = Field(description="Model name.")
    score: float = Field(default=0.0, description="Share of all questions answered correctly, 0 to 1.")
    clean: float | None = Field(description="Share of the other questions answered correctly, 0 to 1; null: none.")
    clean_ci95: Interval | None = Field(description="Its 95% interval (Wilson).")
    clean_n: int = Field(description="Number of other questions.")
    found: float | None = Field(description="Share of the questions in the training text answered correctly.")
    found_n: int = Field(description="Number of questions in the training text.")


class TakenOut(Config):
    """What was taken out of one corpus, or of the records, before anything was learned."""

    action: str = Field(description="drop: whole documents; cut: the passage alone.")
    read: int = Field(description="Training documents or records looked at.")
    removed: int = Field(description="How many were left out.")
    cut: int = Field(description="How many lost a passage.")
    allowed: int = Field(description="How many stay, because contamination.reviewed allows them.")
    found: dict[str, tuple[int, ...]] = Field(description="Questions found, by subject or benchmark.")


class Contamination(Config):
    """What the contamination stage found."""

    questions: int = Field(description="Questions looked for.")
    unknowable: int = Field(description="Questions too short to be told from common phrases; they count as not found.")
    documents: dict[str, int] = Field(description="Documents and records read, by source.")
    documents_with_questions: int = Field(description="Documents and records that contain a question.")
    found: dict[str, tuple[int, ...]] = Field(description="Questions found, by subject: their numbers from 0.")
    allowed: int = Field(
        default=0, description="Documents that contain questions and that contamination.reviewed allows."
    )
    taken_out: dict[str, TakenOut] = Field(default={}, description="What was taken out before, by source.")
    examples: tuple[tuple[str, str, str], ...] = Field(
        description="Some matches: subject and number, the question, the words of the document."
    )
    scores: tuple[CleanScore, ...] = Field(description="Scores with and without the questions found, by model.")
