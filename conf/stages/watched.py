"""A benchmark that is asked while a student learns."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from conf.base import Config
from conf.stages.answer import Chat
from conf.stages.benchmark import Benchmark


class WatchedBenchmark(Config):
    """A benchmark of `evaluate.benchmarks` in evaluations during training: greedily, one answer per question."""

    limit: int | None = Field(
        default=None, ge=1, description="Questions, the first ones; needed where answers are text; else empty: all."
    )
    max_new_tokens: int | None = Field(
        default=None, ge=1, description="Maximum tokens of an answer in text; empty: as in evaluate.benchmarks."
    )
    chat: Chat | None = Field(
        default=None, description="Whether prompts are a user's message; empty: as in evaluate.benchmarks."
    )
    batch: int | None = Field(
        default=None, ge=1, description="Questions answered side by side; empty: as in evaluate.benchmarks."
    )

    def filled(self, benchmark: Benchmark) -> Self:
        """A copy with everything that it leaves to `benchmark`, the recipe's."""
        own = {name: value for name, value in self.model_dump().items() if value is not None}
        left = {name: getattr(benchmark, name) for name in ("limit", "max_new_tokens", "chat", "batch")}
        return type(self).model_validate(left | own)
