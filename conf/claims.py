"""Claims about models of a run, which its report decides."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config
from conf.benchmarks import BenchmarkName

ClaimedBy = Literal["val_loss", "kl_teacher", "mmlu", "tokens_per_second", "bytes"]
LOWER = ("val_loss", "kl_teacher", "bytes")
"""Metrics for which lower is better."""


class Claim(Config):
    """One model is better than another in one metric."""

    says: str = Field(default="", description="The claim as text.")
    model: str = Field(description="The model claimed to be better, by its name in the report.")
    than: str = Field(description="The model to compare with.")
    by: ClaimedBy | BenchmarkName = Field(
        default="val_loss",
        description=(
            "Metric: val_loss, kl_teacher: lower, paired over the test sequences; mmlu or one of evaluate.benchmarks:"
            " higher, paired over the questions; bytes: lower; tokens_per_second: higher, timed once each, without an"
            " interval."
        ),
    )
