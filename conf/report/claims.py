"""The verdict on a claim of the recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config


class ClaimVerdict(Config):
    """Whether one model is better than another in one metric. Numbers are in nats per token (val_loss, kl_teacher), a
    share of the questions (mmlu, benchmarks), bytes, or tokens per second."""

    claim: str = Field(description="The claim as a sentence.")
    by: str = Field(description="Metric that decides the claim.")
    model: str = Field(description="Model that is claimed to be better.")
    than: str = Field(description="Model it is compared with.")
    model_value: float | None = Field(description="The metric of `model`; null: not measured.")
    than_value: float | None = Field(description="The metric of `than`; null: not measured.")
    difference: float | None = Field(
        default=None,
        description="`model` minus `than`, paired over the same items where there are any; null: not measured.",
    )
    low: float | None = Field(default=None, description="Lower bound of its 95% interval; null: no interval.")
    high: float | None = Field(default=None, description="Upper bound of its 95% interval; null: no interval.")
    seeds: int = Field(
        default=1, description="Seeds of the comparison; above 1, values are means and the interval holds seeds too."
    )
    n: int | None = Field(default=None, description="Test sequences or questions in the comparison.")
    verdict: Literal["holds", "refuted", "not shown", "holds, timed once", "refuted, timed once"] = Field(
        description=(
            "holds or refuted: the whole interval is on one side of 0; speeds are timed once and have no interval."
        )
    )
