"""Which training steps are spikes, whose update is left out."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from conf.base import Config


class Spikes(Config):
    """A step is a spike if its gradient norm or its loss is far above those of the steps before, or not a finite
    number. Its batch counts as seen, and the weights stay as they are."""

    window: int = Field(
        default=50,
        ge=5,
        description="Steps before, spikes left out, whose median a step is compared with; the first are not judged.",
    )
    grad_norm: float | None = Field(
        default=5.0, gt=1, description="A spike has more than so many times the median gradient norm; empty: any."
    )
    loss: float | None = Field(
        default=2.0, gt=1, description="A spike has more than so many times the median loss; empty: any."
    )
    most: int = Field(default=10, ge=1, description="The stage fails after so many spikes in a row.")

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.grad_norm is None and self.loss is None:
            raise ValueError("spikes.grad_norm and spikes.loss are both empty; set one of them or remove spikes")
        return self
