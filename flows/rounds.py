"""The rounds of a study: which trials come next, until its budget is spent. Independent of how trials are run, so that
a run and a plan go through the same rounds."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.cluster import Cluster
from conf.placement import place_on_cluster
from conf.recipe import Recipe
from conf.stages.distill import DistillConfig
from conf.stopping import compared_student, stopping_steps
from conf.study import Point, StudyConfig
from conf.trials import described, scored_on, trial_recipe
from flows.plan import PlannedStage, plan
from flows.sizing import Sized, check_fits, sized
from tasks.analysis.study.proposer import Result, proposer
from tasks.analysis.study.stopping import Stopped

Results = list[Result]
COMPARED = ("val_loss", "kl_teacher")
"""Metrics on the text of the data stage, which must be the same text."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training tokens, and GPU-hours as planned; 0 hours without GPUs."""

    tokens: int = 0
    gpu_hours: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(tokens=self.tokens + other.tokens, gpu_hours=self.gpu_hours + other.gpu_hours)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(tokens=self.tokens - other.tokens, gpu_hours=self.gpu_hours - other.gpu_hours)

    def share(self, share: float) -> Cost:
        """A share of it."""
        return Cost(tokens=round(self.tokens * share), gpu_hours=self.gpu_hours * share)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial: its point, its recipe, None where the recipe refuses the point, and its stages. `own` are the labels
    of those that the recipe itself has not, with what they cost."""

    number: int
    round: int
    point: Point
    recipe: Recipe | None = None
    stages: tuple[PlannedStage, ...] = ()
    own: dict[str, Cost] = field(default_factory=dict)
    refused: str = ""

    @property
    def cost(self) -> Cost:
        """What its own stages cost."""
        return sum(self.own.values(), Cost())

    def cost_until(self, student: str, step: int) -> Cost:
        """What they cost where the student's distillation is stopped after `step`."""
        spent = Cost()
        for stage in self.stages:
            cost = self.own.get(stage.label, Cost())
            if stage.label == f"distill-{student}":
                assert isinstance(stage.config, DistillConfig)
                return spent + cost.share(step / stage.config.steps)
            spent += cost if stage.student in (None, student) else Cost()
        raise AssertionError(f"a trial has no distillation of {student}")

    def stage(self, label: str) -> PlannedStage:
        """One of its stages."""
        return next(stage for stage in self.stages if stage.label == label)

    @property
    def mark(self) -> str:
        """What its own stages and models have behind their names."""
        return f"t{self.number}"


class Space:
    """Recipes of a study's trials as they would run on a cluster: `values` are the recipe's before they are
    completed."""

    def __init__(self, values: dict[str, Any], study: StudyConfig, cluster: Cluster, root: Path) -> None:
        self.values, self.study, self.cluster, self.root = values, study, cluster, root
        self.recipe = self.of({})
        self.planned = plan(self.recipe, root)
        self.known = {stage.key for stage in self.planned}
        self.student = compared_student(self.recipe, study) if study.stop else ""
        self.steps = stopping_steps(self.recipe, study) if study.stop else ()
        self.length = config.steps if self.student and (config := self.recipe.distill_of(self.student)) else 0

    def of(self, point: Point, *, split: str = "validation", seed: int = 0) -> Recipe:
        """The recipe of a point. Raises ValueError if it is refused or does not fit the cluster."""
        return scored_on(place_on_cluster(trial_recipe(self.values, point, seed), self.cluster), split)

    def check(self) -> None:
        """Raise ValueError for a key that changes no stage, or that makes the objectives incomparable, and for a budget
        without a trial."""
        check_fits(self.recipe, self.cluster, self.planned)
        if self.study.gpu_hours and not any(each.gpu_hours for each in sized(self.recipe, self.cluster, self.planned)):
            raise ValueError(
                f"study.gpu_hours is {self.study.gpu_hours:g}, but the GPU-hours of the trials are not known: this"
                " cluster names no GPU; use --cluster, or study.tokens"
            )
        self._check_keys()
        try:
            next(rounds(self))
        except StopIteration as end:
            raise ValueError(f"the study has no trial: {end.value}; raise its budget") from None

    def _check_keys(self) -> None:
        moving = set[str]()
        for key in self.study.space:
            variants = [plan(recipe, self.root) for recipe in self._alone(key)]
            changed = _changed(variants)
            moving |= changed
            if len(variants) > 1 and not changed:
                raise ValueError(
                    f"study.space.{key} changes no model of this recipe: it says only how fast a stage runs, or its"
                    " sections state their own value; remove it"
                )
            for objective in self.study.objectives:
                fixed = ("data", "teacher") if objective.by == "kl_teacher" else ("data",)
                if objective.by in COMPARED and (moved := changed & set(fixed)):
                    raise ValueError(
                        f"study.space.{key} changes the stage {min(moved)}, and {objective.by} cannot be compared over"
                        " different texts or teachers; compare by mmlu or a benchmark, or remove it"
                    )

        if self.study.stop and f"distill-{self.student}" not in moving:
            raise ValueError(
                f"study.stop compares trials while {self.student} is distilled, but no key of the space changes that;"
                " remove stop"
            )

    def _alone(self, key: str) -> list[Recipe]:
        """The recipe with each value of one key; those that need another key to change too are left out."""
        recipes = []
        for value in self.study.ends(key):
            try:
                recipes.append(self.of({key: value}))
            except ValueError:
                continue
        return recipes

    def trial(self, number: int, round_: int, point: Point) -> Trial:
        """A trial at a point."""
        try:
            recipe = self.of(point)
            stages = plan(recipe, self.root)
            check_fits(recipe, self.cluster, stages)
        except ValueError as error:
            return Trial(number=number, round=round_, point=point, refused=f"{described(point)}: {error}")
        own = {each.stage.label: _cost(each) for each in self._once(sized(recipe, self.cluster, stages))}
        return Trial(number=number, round=round_, point=point, recipe=recipe, stages=tuple(stages), own=own)

    def _once(self, stages: list[Sized]) -> list[Sized]:
        """Those that the recipe has not, each key once."""
        own = {each.stage.key: each for each in reversed(stages) if each.stage.key not in self.known}
        return list(own.values())


def _cost(each: Sized) -> Cost:
    return Cost(tokens=int(getattr(each.stage.config, "own_tokens", 0)), gpu_hours=each.gpu_hours or 0.0)


def _changed(variants: list[list[PlannedStage]]) -> set[str]:
    """Labels of stages whose keys differ between plans."""
    keys: dict[str, set[str]] = {}
    for stages in variants:
        for stage in stages:
            keys.setdefault(stage.label, set()).add(stage.key)
    everywhere = {label for label in keys if all(any(one.label == label for one in stages) for stages in variants)}
    return {label for label, found in keys.items() if len(found) > 1 or label not in everywhere}


def _over(study: StudyConfig, spent: Cost) -> str:
    """Why a trial is one too many; empty: it is not."""
    if study.tokens and spent.tokens > study.tokens:
        return f"the next trial would go beyond study.tokens {study.tokens:,}"
    if study.gpu_hours and spent.gpu_hours > study.gpu_hours:
        return f"the next trial would go beyond study.gpu_hours {study.gpu_hours:g}"
    return ""


def rounds(space: Space) -> Generator[list[Trial], Results, str]:
    """The trials of each round, which is sent their results; returns why there are no more."""
    study, source, number, spent, round_ = space.study, proposer(space.study), 0, Cost(), 0
    while number < study.most:
        asked = source.ask(min(study.round, study.most - number))
        if not asked:
            return f"the sampler found no point that was not tried among {number}"
        round_ += 1
        trials: list[Trial] = []
        for point in asked:
            trial = space.trial(number + 1, round_, point)
            spent += trial.cost
            if over := _over(study, spent):
                if trials:
                    yield trials
                return over
            trials.append(trial)
            number += 1
        results = yield trials
        source.tell(results)
        for trial, result in zip(trials, results, strict=True):
            if isinstance(result, Stopped):
                spent += trial.cost_until(space.student, result.step) - trial.cost
    if study.sampler == "grid" or number == study.points:
        return f"all {number} points of the space were tried"
    return f"its budget of {number} trials is spent"
