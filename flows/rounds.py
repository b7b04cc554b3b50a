"""The rounds of a study: which trials come next, until its budget is spent. Independent of how trials are run, so that
a run and a plan go through the same rounds."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.cluster import Cluster
from conf.placement import place_on_cluster
from conf.recipe import Recipe
from conf.study import Point, StudyConfig
from conf.trials import described, scored_on, trial_recipe
from flows.plan import PlannedStage, plan
from flows.sizing import check_fits
from tasks.analysis.study.proposer import Values, proposer

Results = list[Values | None]
COMPARED = ("val_loss", "kl_teacher")
"""Metrics on the text of the data stage, which must be the same text."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial: its point, the training tokens of its own stages, and its recipe, None where the recipe refuses the
    point."""

    number: int
    round: int
    point: Point
    tokens: int = 0
    recipe: Recipe | None = None
    stages: tuple[PlannedStage, ...] = ()
    refused: str = ""

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

    def of(self, point: Point, *, split: str = "validation", seed: int = 0) -> Recipe:
        """The recipe of a point. Raises ValueError if it is refused or does not fit the cluster."""
        return scored_on(place_on_cluster(trial_recipe(self.values, point, seed), self.cluster), split)

    def check(self) -> None:
        """Raise ValueError for a key that changes no stage, or that makes the objectives incomparable, and for a budget
        without a trial."""
        check_fits(self.recipe, self.cluster, self.planned)
        self._check_keys()
        try:
            next(rounds(self))
        except StopIteration as end:
            raise ValueError(f"the study has no trial: {end.value}; raise its budget") from None

    def _check_keys(self) -> None:
        for key in self.study.space:
            variants = [plan(recipe, self.root) for recipe in self._alone(key)]
            changed = _changed(variants)
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
        own = {stage.key: stage.config for stage in stages if stage.key not in self.known}
        tokens = sum(int(getattr(config, "own_tokens", 0)) for config in own.values())
        return Trial(number=number, round=round_, point=point, recipe=recipe, stages=tuple(stages), tokens=tokens)


def _changed(variants: list[list[PlannedStage]]) -> set[str]:
    """Labels of stages whose keys differ between plans."""
    keys: dict[str, set[str]] = {}
    for stages in variants:
        for stage in stages:
            keys.setdefault(stage.label, set()).add(stage.key)
    everywhere = {label for label in keys if all(any(one.label == label for one in stages) for stages in variants)}
    return {label for label, found in keys.items() if len(found) > 1 or label not in everywhere}


def rounds(space: Space) -> Generator[list[Trial], Results, str]:
    """The trials of each round, which is sent their results; returns why there are no more."""
    study, source, number, spent, round_ = space.study, proposer(space.study), 0, 0, 0
    while number < study.most:
        asked = source.ask(min(study.round, study.most - number))
        if not asked:
            return f"the sampler found no point that was not tried among {number}"
        round_ += 1
        trials: list[Trial] = []
        for point in asked:
            trial = space.trial(number + 1, round_, point)
            spent += trial.tokens
            if study.tokens and spent > study.tokens:
                over = f"the next trial would go beyond study.tokens {study.tokens:,}"
                if trials:
                    yield trials
                return over
            trials.append(trial)
            number += 1
        source.tell((yield trials))
    if study.sampler == "grid" or number == study.points:
        return f"all {number} points of the space were tried"
    return f"its budget of {number} trials is spent"
