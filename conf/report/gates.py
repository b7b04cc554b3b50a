"""What came of a gate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config


class Verdict(Config):
    """Whether a model keeps a gate's bound. All numbers are in the gate's own terms: a ratio, a difference or
    the metric itself."""

    gate: str = Field(description="Name of the gate in the recipe.")
    student: str = Field(description="Student that the model belongs to.")
    model: str = Field(description="Model that was judged.")
    after: str = Field(description="Stage after which the gate stands.")
    bound: str = Field(description="The bound in words.")
    confidence: float | None = Field(description="Confidence at which the bound must hold, 0 to 1; None: the estimate.")
    measured: float = Field(description="The estimate.")
    low: float | None = Field(description="Lower end of its interval at this confidence; None: unbounded.")
    high: float | None = Field(description="Upper end of its interval at this confidence; None: unbounded.")
    n: int = Field(description="Items it was measured on, in `unit`.")
    unit: Literal["questions", "sequences"] = Field(description="What `n` and `needs` count.")
    p: float | None = Field(description="Exact two-sided McNemar p-value of no difference; None: not paired answers.")
    verdict: Literal["passed", "failed", "not shown"] = Field(
        description="not shown: the estimate keeps the bound and the interval does not; it stops the student as well."
    )
    needs: int | None = Field(description="Where not shown: about how many items would show it; None: no number would.")
    sentence: str = Field(description="The verdict with its numbers, in one sentence.")
