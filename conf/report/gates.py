"""The verdict of a gate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config


class Verdict(Config):
    """Whether a model meets a gate's bound. All numbers are in the units of the bound: a ratio, a difference or the
    metric itself."""

    gate: str = Field(description="Name of the gate in the recipe.")
    student: str = Field(description="Student that the model belongs to.")
    model: str = Field(description="Model that was tested.")
    after: str = Field(description="Stage whose model the gate tests.")
    bound: str = Field(description="The bound as text.")
    confidence: float | None = Field(
        description="Confidence at which the bound must hold, 0 to 1; null: the estimate alone decides."
    )
    measured: float = Field(description="The estimate.")
    low: float | None = Field(description="Lower bound of its interval at this confidence; null: unbounded.")
    high: float | None = Field(description="Upper bound of its interval at this confidence; null: unbounded.")
    n: int = Field(description="Number of items measured, in `unit`.")
    unit: Literal["questions", "sequences"] = Field(description="Unit of `n` and `needs`.")
    p: float | None = Field(
        description="Exact two-sided McNemar p-value of no difference; null: the answers are not paired."
    )
    verdict: Literal["passed", "failed", "not shown"] = Field(
        description=(
            "not shown: the estimate meets the bound but its interval does not; it stops the student as failed does."
        )
    )
    needs: int | None = Field(description="If not shown: about how many items would show it; null: no number would.")
    sentence: str = Field(description="The verdict with its numbers as one sentence.")
