"""The trunk stage: the first steps of a distillation, kept as a state from which others go on."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Self

from pydantic import Field, model_validator

from conf.estimate.numbers import Models, StageEstimate
from conf.stages.average import Average
from conf.stages.distill import DistillConfig
from conf.stages.schedule import Schedule


class TrunkConfig(DistillConfig):
    """A distillation that stops after `until` steps. Which steps an earlier trunk has made is no part of its key: a run
    that goes on from a checkpoint equals one that was not stopped."""

    stage: ClassVar[str] = "trunk"
    writes: ClassVar[tuple[str, ...]] = ("metrics.jsonl",)

    until: int = Field(ge=1, description="Steps after which it stops; below steps.")

    @property
    def own_steps(self) -> int:
        return self.until - self.begun

    @model_validator(mode="after")
    def _watched(self) -> Self:
        """A window of spikes longer than the trunk was checked against the whole run."""
        if self.spikes and self.spikes.point_every:
            raise ValueError(
                "spikes.action is rewind, but who goes on from a trunk cannot go back before its end; choose skip"
            )
        return self

    @model_validator(mode="after")
    def _watches_something(self) -> Self:
        """So were evaluations."""
        return self

    @model_validator(mode="after")
    def _before_the_end(self) -> Self:
        if not self.begun < self.until < self.steps:
            raise ValueError(f"until is {self.until}; choose one above {self.begun} and below steps {self.steps}")
        return self

    def estimate(self, models: Models) -> StageEstimate | None:
        found = super().estimate(models)
        return found and replace(found, disk=found.copies.checkpoint)


def stable_trunk(config: DistillConfig, until: int) -> TrunkConfig:
    """The first `until` steps of `config`, all in its stable phase. It knows nothing of what comes after them: neither
    the decay nor the number of steps, nor an average that begins later."""
    forgotten = {
        "steps": until + 1,
        "until": until,
        "schedule": Schedule(name="constant").model_dump(),
        "min_lr": config.lr,
        "export": "weights",
        "average": _ema(config.average),
        "begun": 0,
    }
    return TrunkConfig.model_validate(config.model_dump() | forgotten)


def first_steps(config: DistillConfig, until: int, begun: int = 0) -> TrunkConfig:
    """The first `until` steps of `config`, of which `begun` are made."""
    return TrunkConfig.model_validate(config.model_dump() | {"until": until, "begun": begun})


def _ema(average: Average | None) -> dict[str, object] | None:
    return average.model_dump() if average and average.kind == "ema" else None
