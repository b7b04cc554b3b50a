"""All cuts of a student, with shapes before and after and the distillation config, for checks and plans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conf.parallel import Parallel
from conf.recipe import Recipe
from conf.shape import Shape
from conf.shapes import candidates, cut_shape
from conf.stages.distill import DistillConfig
from conf.stages.prune import PruneConfig
from conf.stages.search import Halving, SearchConfig


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One cut. `where` and `distill_at` are the paths of its prune and distill settings in the recipe; `last` marks the
    cut that is quantized."""

    where: str
    parallel: Parallel
    before: Shape
    after: Shape
    config: DistillConfig | None
    distill_at: str
    teacher: Shape
    last: bool = True
    ranked: bool = True


def cuts(recipe: Recipe, name: str, teacher: Shape) -> list[Cut]:
    """The cuts of a student in order, or all candidates of its search. Raises ValueError if a cut does not fit its
    model."""
    student = recipe.students[name]
    if student.search:
        return _searched(recipe, name, student.search, teacher)
    result: list[Cut] = []
    before, whose = teacher, "the teacher"
    for number, round_ in enumerate(student.cuts):
        where = f"students.{name}.rounds.{number + 1}" if student.rounds else f"students.{name}"
        after = cut_shape(f"{where}.prune", round_.prune, before, whose)
        distill_at = (
            f"{where}.distill" if round_.distill else f"students.{name}.distill" if student.distill else "distill"
        )
        result.append(
            Cut(
                where=f"{where}.prune",
                parallel=round_.prune.parallel,
                before=before,
                after=after,
                config=recipe.distill_of(name, number) if student.rounds else recipe.distill_of(name),
                distill_at=distill_at,
                teacher=teacher if round_.teacher == "original" else before,
                last=number == len(student.cuts) - 1,
                ranked=bool(round_.prune.ranked),
            )
        )
        before, whose = after, f"the student of round {number + 1}"
    return result


def _searched(recipe: Recipe, name: str, search: SearchConfig, teacher: Shape) -> list[Cut]:
    where, config = f"students.{name}.search", recipe.distill_of(name)
    shapes = candidates(where, search, teacher)
    if search.halving.sizes(len(shapes)) and not (config and config.steps):
        raise ValueError(
            f"{where}.halving compares {search.halving.top_k} candidates after a short distillation but {name} has no"
            " distill; set distill, or halving.top_k=1 to take the best quick score"
        )
    distill_at = f"students.{name}.distill" if recipe.students[name].distill else "distill"
    return [
        Cut(
            where=where,
            parallel=search.parallel,
            before=teacher,
            after=shape,
            config=config,
            distill_at=distill_at,
            teacher=teacher,
        )
        for shape in shapes
    ]


def check_names(recipe: Recipe) -> None:
    """Raise ValueError for a student named like a round or candidate of another student (NAME-r1, NAME-c1)."""
    for name, student in recipe.students.items():
        letter = "r" if student.rounds else "c" if student.search else None
        for other in recipe.students:
            if letter and re.match(rf"{re.escape(name)}-{letter}\d+(-|$)", other):
                kind = "round" if letter == "r" else "candidate"
                raise ValueError(f"students.{other} has the name of a {kind} of students.{name}; choose another name")


def prune_of(search: SearchConfig, sizes: Mapping[str, int], teacher: Mapping[str, int]) -> PruneConfig:
    """The prune config of a candidate, identical to that of a recipe with these sizes, so that they share one
    artifact."""
    cut = {axis: size for axis, size in sizes.items() if size != teacher[axis]}
    ranking = {"ranking": search.ranking} if cut.keys() != {"num_query_groups"} else {}  # which needs none
    return PruneConfig.model_validate(cut | ranking | {"seed": search.seed, "parallel": search.parallel})


WITHOUT_EARLY_STOPPING: dict[str, Any] = {
    "keep": "last",
    "best_by": "val_kl",
    "patience": None,
    "min_delta": 0.0,
    "evaluate_every": None,
    "evaluate_limit": None,
    "evaluate_benchmarks": {},
    "offline": False,
}
"""Short rounds never stop early and run no evaluations, so that candidates are compared after the same number of
tokens. They use the teacher itself, because stored logits may not cover the samples of later rounds."""


def round_of(config: DistillConfig, halving: Halving, number: int) -> DistillConfig:
    """Distillation config of candidates in round `number`, from 0: twice the steps of the previous round, proportional
    warm-up, other samples. Phases are
    left out, and a window of spikes and a mean of weights that reach further than its steps."""
    steps = (halving.steps or max(1, config.steps // 10)) * 2**number
    schedule = {
        "steps": steps,
        "warmup_steps": config.warmup_steps * steps // config.steps,
        "seed": config.seed + number,
    }
    unfit: dict[str, Any] = {"evaluation": None, "phases": ()}
    if config.spikes and max(config.spikes.window, config.spikes.point_every or 0) >= steps:
        unfit |= {"spikes": None}
    if config.average and config.average.reach >= steps:
        unfit |= {"average": None, "export": "weights"}
    return type(config).model_validate(config.model_dump() | schedule | WITHOUT_EARLY_STOPPING | unfit)
