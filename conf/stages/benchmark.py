"""The benchmarks that a recipe may ask beside MMLU; each is read, answered and judged by stages of its own, so that one
can be added without asking the others again."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution, Precision
from conf.stages.answer import AnswerConfig, Chat
from conf.stages.questions import BenchmarkName, QuestionsConfig

SCORED_CHOICES: tuple[BenchmarkName, ...] = ("arc_easy", "arc_challenge", "hellaswag", "winogrande")
"""Benchmarks whose choices are scored; the others are answered in text."""
CODE: tuple[BenchmarkName, ...] = ("humaneval", "mbpp")
"""Benchmarks whose answers are programs, which are run."""


class Benchmark(Config):
    """One benchmark: its questions and how they are answered."""

    path: Annotated[str | None, Execution()] = Field(
        default=None,
        min_length=1,
        description=(
            "File or folder of its questions, in the original shape or with the hub's columns (jsonl, json, parquet);"
            " empty: its data set on the hub. The content is hashed, not the path."
        ),
    )
    shots: int | None = Field(default=None, ge=0, description="Worked examples before each question; empty: lm-eval's.")
    limit: int | None = Field(
        default=None, ge=1, description="Maximum number of questions, the first ones; empty: all."
    )
    chat: Chat = Field(
        default="never",
        description=(
            "Whether the prompt is put to the model as a user's message: never; auto, if its tokenizer has a chat"
            " template; always."
        ),
    )
    max_new_tokens: int | None = Field(
        default=None, ge=1, description="Maximum tokens of an answer in text; empty: lm-eval's."
    )
    samples: int = Field(
        default=1, ge=1, description="Answers per question; more than one needs a temperature above 0."
    )
    temperature: float = Field(default=0.0, ge=0, description="Sampling temperature; 0: greedy decoding.")
    seed: int = Field(default=1, ge=0, description="Sampling seed.")
    batch: int = Field(
        default=16,
        ge=1,
        description="Questions per batch; draws and the last bit of bf16 depend on it, so it is part of the result.",
    )

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples is {self.samples} but temperature 0 gives the same answer every time; raise the temperature"
            )
        return self

    def questions(self, name: BenchmarkName) -> QuestionsConfig:
        """Settings of the stage that reads the questions."""
        return QuestionsConfig(benchmark=name, path=self.path, shots=self.shots, limit=self.limit)

    def answer(self, precision: Precision) -> AnswerConfig:
        """Settings of the stage in which a model answers."""
        return AnswerConfig(
            chat=self.chat,
            max_new_tokens=self.max_new_tokens,
            samples=self.samples,
            temperature=self.temperature,
            seed=self.seed,
            batch=self.batch,
            precision=precision,
        )
