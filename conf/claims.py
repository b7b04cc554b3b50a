"""What a recipe claims of its models: statements that its run decides."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config

ClaimedBy = Literal["val_loss", "kl_teacher", "mmlu", "tokens_per_second", "bytes"]
LOWER = ("val_loss", "kl_teacher", "bytes")
"""Metrics of which less is better."""


class Claim(Config):
    """One model is better than another in one metric."""

    says: str = Field(default="", description="The claim in words, for people.")
    model: str = Field(description="The model that is claimed to be better, as the report's table calls it.")
    than: str = Field(description="The model it is compared with.")
    by: ClaimedBy = Field(
        default="val_loss",
        description=(
            "val_loss, kl_teacher: lower, paired over the test sequences; mmlu: higher, paired over the questions;"
            " bytes: lower; tokens_per_second: higher, each timed once, without an interval."
        ),
    )
