"""The benchmarks that a recipe may ask beside MMLU; each is read, answered and judged by stages of its own, so that one
can be added without asking the others again."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution

BenchmarkName = Literal[
    "gsm8k", "arc_easy", "arc_challenge", "humaneval", "mbpp", "hellaswag", "winogrande", "mmlu_pro"
]
SCORED_CHOICES: tuple[BenchmarkName, ...] = ("arc_easy", "arc_challenge", "hellaswag", "winogrande")
"""Benchmarks whose choices are scored; the others are answered in text."""
CODE: tuple[BenchmarkName, ...] = ("humaneval", "mbpp")
"""Benchmarks whose answers are programs, which are run."""
Chat = Literal["never", "auto", "always"]


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

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples is {self.samples} but temperature 0 gives the same answer every time; raise the temperature"
            )
        return self
