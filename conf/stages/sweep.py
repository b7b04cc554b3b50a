"""The sweep stage: loss of pruning each axis on its own."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from conf.base import Resumes, Seed
from conf.stages.candidate_score import AXES, Axis, QuickScore
from conf.stages.prune import Ranking


class SweepConfig(QuickScore):
    """The teacher cut along one axis at a time to several sizes, each scored without distillation."""

    stage: ClassVar[str] = "sweep"
    writes: ClassVar[tuple[str, ...]] = ("sweep.json",)
    resumes: ClassVar[Resumes] = "metrics"

    axes: tuple[Axis, ...] = Field(default=AXES, min_length=1, description="Axes to sweep, one at a time.")
    ratios: tuple[float, ...] = Field(
        default=(0.9, 0.8, 0.7, 0.6, 0.5),
        min_length=1,
        description="Shares of an axis to keep, rounded to the nearest valid size.",
    )
    divisor: int = Field(default=8, ge=1, description="hidden_size and ffn_hidden_size are cut to multiples of this.")
    ranking: Ranking = Field(
        default="activation", description="How layers and channels are ranked, as in prune.ranking."
    )
    seed: Seed = Field(default=1, description="Seed of random ranking.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if any(not 0 < ratio < 1 for ratio in self.ratios) or len(set(self.ratios)) != len(self.ratios):
            raise ValueError(f"sweep.ratios is {list(self.ratios)}; list distinct shares between 0 and 1")
        if len(set(self.axes)) != len(self.axes):
            raise ValueError(f"sweep.axes has duplicates: {list(self.axes)}; list each axis once")
        return self
