"""A ladder of formats: keep the smallest format whose loss stays within a bound."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from conf.base import Config
from conf.benchmarks import BenchmarkName


class LadderConfig(Config):
    """Formats from the most bits to the fewest; for each student, the last one within the bound is kept."""

    formats: tuple[str, ...] = Field(
        min_length=1, description="Names of the recipe's formats, from the most bits to the fewest."
    )
    metric: Literal["mmlu", "val_loss", BenchmarkName] = Field(
        default="mmlu",
        description=(
            "Metric of the bound: mmlu or one of evaluate.benchmarks, paired over the same questions; or val_loss, the"
            " test loss."
        ),
    )
    bound: float = Field(
        gt=0,
        description=(
            "Maximum loss against the unquantized student: of a score, as a share (0.01 is one point); val_loss, in"
            " nats per token."
        ),
    )
    confident: bool = Field(
        default=True,
        description="For a score: the worse end of the 95% interval must stay within the bound; false: the estimate.",
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.formats)) != len(self.formats):
            raise ValueError(f"ladder.formats has duplicates: {', '.join(self.formats)}; list each once")
        return self
