"""Trials that are stopped early: at each point all of a round are compared, then those that are left go on.

Shared by runs and plans, which differ in how they get a trial's value at a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from conf.stages.distill import DistillConfig
from conf.stages.trunk import first_steps
from conf.study import CURVES
from flows.rounds import Space, Trial
from tasks.analysis.study.stopping import Stopped, Stopping, value_at
from tasks.store.store import RECORD, Artifact, key_of

Reached = dict[int, float | str]
"""By number of trial: its value at a point, or why it failed before."""


@dataclass(kw_only=True)
class Standing:
    """How a round's trials stand: those that go on to their end, those that were stopped, and those that failed."""

    on: list[Trial]
    stopped: dict[int, Stopped] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)


class Comparing:
    """Compares the trials of a study round by round; without `study.stop`, all go on."""

    def __init__(self, space: Space) -> None:
        self.space, stop = space, space.study.stop
        self.rule = Stopping(stop, lower=space.study.objectives[0].lower) if stop else None

    def round(self, trials: list[Trial], reach: Callable[[list[Trial], int], Reached | None]) -> Standing | None:
        """How these trials stand after all points. `reach` takes trials to a point, numbered from 0; None: their values
        are not known yet."""
        standing = Standing(on=[trial for trial in trials if trial.recipe])
        for place, step in enumerate(self.space.steps):
            assert self.rule is not None, "there are points"
            reached = reach(standing.on, place)
            if reached is None:
                return None
            values = {number: value for number, value in reached.items() if not isinstance(value, str)}
            standing.failed |= {number: why for number, why in reached.items() if isinstance(why, str)}
            behind = self.rule.behind(place, values)
            for trial in standing.on:
                if trial.number in behind:
                    tokens = trial.cost_until(self.space.student, step).tokens
                    standing.stopped[trial.number] = Stopped(step, values[trial.number], tokens)
            standing.on = [trial for trial in standing.on if trial.number in values and trial.number not in behind]
        return standing

    def value(self, artifact: Artifact, place: int) -> float:
        """What is compared, from a training that reached a point."""
        return value_at(Path(artifact.path), self.space.steps[place], CURVES[self.space.study.objectives[0].by])

    def stored(self, trial: Trial, place: int) -> Artifact | None:
        """The training of a trial that reached a point, if the store has it: its whole distillation or its first
        steps."""
        whole = trial.stage(f"distill-{self.space.student}")
        assert isinstance(whole.config, DistillConfig)
        first = first_steps(whole.config, self.space.steps[place])
        places = ("distill", whole.key), ("trunk", key_of("trunk", first, whole.inputs))
        for stage, key in places:
            path = self.space.root / stage / key
            if (path / RECORD).is_file():
                return Artifact(stage=stage, key=key, path=str(path))
        return None
