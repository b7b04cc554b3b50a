"""The benchmarks that a recipe may ask beside MMLU; each is read, answered and judged by stages of its own, so that one
can be added without asking the others again."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import Execution, Precision
from conf.benchmarks import BenchmarkName
from conf.engines.asked import AnsweredBy
from conf.paths import InputName
from conf.stages.answer import AnswerConfig, Answering, Chat
from conf.stages.questions import QuestionsConfig


class Benchmark(Answering):
    """One benchmark: its questions and how they are answered."""

    path: Annotated[InputName | None, Execution()] = Field(
        default=None,
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

    def answer(self, precision: Precision, engine: AnsweredBy | None = None) -> AnswerConfig:
        """Settings of the stage in which a model answers, or `engine` does for it."""
        answering = {name: getattr(self, name) for name in Answering.model_fields}
        return AnswerConfig(**answering, chat=self.chat, precision=precision, engine=engine)
