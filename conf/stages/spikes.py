"""Which training steps are spikes, and what is done about them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Later

REWIND_EVERY, REWINDS = 50, 3


class Spikes(Config):
    """A step is a spike if its gradient norm or its loss is far above those of the steps before, or not a finite
    number. Its batch counts as seen, and the weights stay as they are; or training goes back to a point before it and
    on with other batches."""

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
    action: Annotated[Literal["skip", "rewind"], Later()] = Field(
        default="skip",
        description=(
            "skip: leave out a spike's update; rewind: go back to the last point before it, and leave out the batches"
            " from there to it."
        ),
    )
    rewind_every: Annotated[int | None, Later()] = Field(
        default=None, ge=1, description="rewind: steps between the points to which training goes back; empty: 50."
    )
    rewinds: Annotated[int | None, Later()] = Field(
        default=None, ge=1, le=100, description="rewind: how often; the stage fails at the next spike; empty: 3."
    )

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.grad_norm is None and self.loss is None:
            raise ValueError("spikes.grad_norm and spikes.loss are both empty; set one of them or remove spikes")
        for name in ("rewind_every", "rewinds"):
            if self.action == "skip" and getattr(self, name) is not None:
                raise ValueError(
                    f"spikes.{name} is {getattr(self, name)} but spikes.action is skip, which goes nowhere back; choose"
                    " rewind or remove it"
                )
        return self

    @property
    def point_every(self) -> int | None:
        """Steps between the points to which training goes back; None: it never does."""
        return (self.rewind_every or REWIND_EVERY) if self.action == "rewind" else None

    @property
    def most_rewinds(self) -> int:
        """How often it goes back."""
        return self.rewinds or REWINDS
