"""Scores on the benchmarks beside MMLU."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Excerpt, Interval

HERE = "imbik"
"""Who answers where no engine does."""


class Answerer(Excerpt):
    """The engine that answered, as far as it tells (answer.json)."""

    engine: str = Field(description="vLLM, or what a server says it is.")
    version: str | None = Field(default=None, description="Version of vLLM; null: part of a server's engine.")
    model: str | None = Field(default=None, description="Name of the model on the server; null: no server.")
    on_cpu: bool = Field(default=False, description="Whether it computed on a processor.")
    kernels: tuple[str, ...] = Field(default=(), description="Kernels of quantized layers; empty: not told.")
    cache: str | None = Field(default=None, description="Type of its key-value cache; null: not told.")
    own_cache: bool = Field(default=True, description="Whether that is the model's own format.")

    @property
    def title(self) -> str:
        """It in a few words."""
        named = f"{self.engine} {self.version}" if self.version else self.engine
        return named + (" on a CPU" if self.on_cpu else "") + (f" as {self.model}" if self.model else "")


class BenchmarkScore(Excerpt):
    """A model's score on one benchmark (benchmark.json)."""

    score: float = Field(description="Share of right responses, 0 to 1.")
    n: int = Field(description="Questions.")
    ci95: Interval = Field(description="95% interval of the score (Wilson over questions).")
    chance: float = Field(description="Share that guessing would answer right; 0: guessing is hopeless.")
    cut_by_length: float = Field(description="Share of responses cut by max_new_tokens.")
    no_answer: float = Field(description="Share of responses in which no answer was found.")
    shots: int = Field(description="Worked examples before each question.")
    chat: bool = Field(description="Whether the prompts were a user's messages.")
    samples: int = Field(description="Responses per question.")
    pass_at: dict[str, float] = Field(description="Share of questions with a right response among k, by k.")
    others: dict[str, float] = Field(description="The same responses scored in other ways, by name.")
    left_out: int = Field(description="Questions left out, since their own reference solution fails.")
    answered_by: Answerer | None = Field(
        default=None, description="Engine that answered; null: imbik itself, with transformers and simulated formats."
    )

    @property
    def who(self) -> str:
        """Who answered, in a few words."""
        return self.answered_by.title if self.answered_by else HERE


class BenchmarkDifference(Config):
    """A model's score minus another's, paired over the questions of the benchmark."""

    model: str = Field(description="Model it is compared with.")
    difference: float = Field(description="Difference in the share of right first responses.")
    ci95: Interval = Field(description="Its 95% interval (Newcombe, paired).")
    p: float = Field(description="Exact two-sided McNemar p-value of no difference.")


class BenchmarkRow(Config):
    """One model on one benchmark."""

    benchmark: str = Field(description="Name of the benchmark.")
    model: str = Field(description="Model name.")
    scores: BenchmarkScore
    against_teacher: BenchmarkDifference | None = Field(
        default=None, description="Difference from the first model, which is the teacher; null for itself."
    )
    against_before: BenchmarkDifference | None = Field(
        default=None, description="Difference from the same student before its last stage; null: it had none."
    )
