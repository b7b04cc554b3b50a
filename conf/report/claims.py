"""What came of a claim of the recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config


class ClaimVerdict(Config):
    """Whether one model is better than another in one metric. Numbers are in nats per token (val_loss, kl_teacher), a
    share of the questions (mmlu), bytes, or tokens per second."""

    says: str = Field(description="The claim in words.")
    by: str = Field(description="Metric that decides.")
    model: str = Field(description="Model that is claimed to be better.")
    than: str = Field(description="Model it is compared with.")
    ours: float | None = Field(description="The metric of `model`; None: not measured.")
    theirs: float | None = Field(description="The metric of `than`; None: not measured.")
    difference: float | None = Field(
        default=None, description="`model` less `than`, over the same items where there are any; None: not measured."
    )
    low: float | None = Field(default=None, description="Lower end of its 95% interval; None: no interval.")
    high: float | None = Field(default=None, description="Upper end of its 95% interval; None: no interval.")
    n: int | None = Field(default=None, description="Test sequences or questions it was measured on.")
    verdict: Literal["holds", "refuted", "not shown", "holds, once timed", "refuted, once timed"] = Field(
        description="Whether the whole interval is on the claim's side; speeds are timed once and have none."
    )
