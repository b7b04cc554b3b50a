"""The schedule of the learning rate after the warm-up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config

if TYPE_CHECKING:
    from conf.stages.training import Training

Decay = Literal["linear", "cosine", "exponential", "minus_sqrt"]


class Schedule(Config):
    """How the learning rate goes from lr to min_lr after the warm-up."""

    name: Literal["cosine", "linear", "constant", "wsd"] = Field(
        default="cosine",
        description=(
            "cosine, linear: fall from lr to min_lr over all steps after the warm-up; constant: stay at lr; wsd"
            " (warmup-stable-decay): stay at lr and fall in the last steps only."
        ),
    )
    decay_share: float | None = Field(
        default=None, gt=0, le=1, description="wsd: share of all steps in which the rate falls; empty: 0.1."
    )
    decay: Decay | None = Field(
        default=None,
        description="wsd: curve of the fall; minus_sqrt is 1 - the square root of its progress; empty: linear.",
    )

    @model_validator(mode="after")
    def _decays(self) -> Self:
        unused = [name for name in ("decay_share", "decay") if getattr(self, name) is not None]
        if unused and self.name != "wsd":
            raise ValueError(
                f"schedule.{unused[0]} is {getattr(self, unused[0])} but schedule.name is {self.name}, which has no"
                " such phase; choose wsd or remove it"
            )
        return self

    def decay_steps(self, steps: int) -> int:
        """Steps of the last phase of wsd in a run of `steps`; at least 1."""
        return max(1, round((self.decay_share or 0.1) * steps))

    def stable_steps(self, steps: int) -> int | None:
        """Steps of a run of `steps` whose rates do not depend on how long it is, at least one less than `steps`; None:
        the curve depends on it from the start."""
        if self.name == "constant":
            return steps - 1
        return steps - self.decay_steps(steps) if self.name == "wsd" else None

    @property
    def decay_curve(self) -> Decay:
        """The curve of the last phase of wsd."""
        return self.decay or "linear"

    def height(self, step: int, steps: int, warmup_steps: int) -> float:
        """Where the rate of `step` (1 to `steps`, after the warm-up) lies between min_lr (0) and lr (1)."""
        if self.name == "constant":
            return 1.0
        first = steps - self.decay_steps(steps) if self.name == "wsd" else warmup_steps
        progress = max(0.0, (step - first) / max(1, steps - first))
        return {
            "linear": 1 - progress,
            "cosine": (1 + math.cos(math.pi * progress)) / 2,
            "exponential": 2 * math.pow(0.5, progress) - 1,
            "minus_sqrt": 1 - math.sqrt(progress),
        }[self.decay_curve if self.name == "wsd" else self.name]


def check_rate(config: Training, where: str = "") -> None:
    """Raise ValueError for a learning rate that would not do what it says; `where` stands before the settings."""
    if config.min_lr > config.lr:
        raise ValueError(
            f"{where}min_lr {config.min_lr:g} is above {where}lr {config.lr:g}; choose a smaller {where}min_lr"
        )
    if config.steps and config.warmup_steps >= config.steps:
        raise ValueError(
            f"{where}warmup_steps {config.warmup_steps} is not below {'its ' if where else ''}steps {config.steps};"
            " choose fewer warm-up steps"
        )
    schedule = config.schedule
    if schedule.name == "constant" and config.min_lr != config.lr:
        raise ValueError(
            f"{where}schedule is constant but {where}min_lr {config.min_lr:g} is not {where}lr {config.lr:g}, and the"
            f" rate would never fall to it; set {where}min_lr to {where}lr or choose another schedule"
        )
    decay_steps = schedule.decay_steps(config.steps)
    if config.steps and schedule.name == "wsd" and config.warmup_steps + decay_steps > config.steps:
        raise ValueError(
            f"{where}warmup_steps {config.warmup_steps} and the {decay_steps} steps of {where}schedule.decay_share are"
            f" more than {'its ' if where else ''}steps {config.steps}; lower either"
        )
