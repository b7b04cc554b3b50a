"""Benchmark questions that occur in the training text."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Interval


class CleanScore(Config):
    """A model's score without the questions that occur in the training text."""

    model: str = Field(description="Model name.")
    clean: float = Field(description="Share of the other questions answered correctly, 0 to 1.")
    clean_ci95: Interval = Field(description="Its 95% interval (Wilson).")
    clean_n: int = Field(description="Number of other questions.")
    found: float = Field(description="Share of the questions in the training text answered correctly, 0 to 1.")
    found_n: int = Field(description="Number of questions in the training text.")


class Contamination(Config):
    """What the contamination stage found."""

    questions: int = Field(description="Questions looked for.")
    unknowable: int = Field(description="Questions too short to be told from common phrases; they count as not found.")
    documents: dict[str, int] = Field(description="Documents and records read, by source.")
    documents_with_questions: int = Field(description="Documents and records that contain a question.")
    found: dict[str, tuple[int, ...]] = Field(description="Questions found, by subject: their numbers from 0.")
    examples: tuple[tuple[str, str, str], ...] = Field(
        description="Some matches: subject and number, the question, the words of the document."
    )
    scores: tuple[CleanScore, ...] = Field(description="Scores with and without the questions found, by model.")
