"""The average of a training's last weights."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from conf.base import Config

DECAY = 0.999


class Average(Config):
    """An average of the weights beside those that are trained, in fp32."""

    kind: Literal["ema", "mean"] = Field(
        description=(
            "ema: exponential moving average over all steps; mean: mean of the weights of the last steps, `every`"
            " steps apart."
        )
    )
    decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="ema: share of the average that a step keeps, corrected for its start; empty: 0.999.",
    )
    last: int | None = Field(
        default=None, ge=2, description="mean: number of weights; the last step's are one of them."
    )
    every: int | None = Field(default=None, ge=1, description="mean: steps between them; empty: 1.")

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        foreign = ("last", "every") if self.kind == "ema" else ("decay",)
        for name in foreign:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"average.{name} is {getattr(self, name)} but average.kind is {self.kind}, which has no {name};"
                    " remove it or choose the other kind"
                )
        if self.kind == "mean" and self.last is None:
            raise ValueError("average.kind is mean but average.last is empty; say how many weights are averaged")
        return self

    @property
    def reach(self) -> int:
        """mean: steps between the first weights and the last."""
        return ((self.last or 1) - 1) * (self.every or 1)

    def share(self, step: int, steps: int) -> float:
        """Share of the average that the weights of `step` (1 to `steps`) become: average += share x (weights -
        average). 0: they are not part of it; the first that are have 1."""
        if self.kind == "ema":
            decay = DECAY if self.decay is None else self.decay
            return float((1 - decay) / (1 - decay**step))
        since, every = step - (steps - self.reach), self.every or 1
        return 1 / (since // every + 1) if since >= 0 and since % every == 0 else 0.0

    def begun(self, step: int, steps: int) -> bool:
        """Whether any weights were averaged after `step`."""
        return step >= 1 if self.kind == "ema" else step >= steps - self.reach
