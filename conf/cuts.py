"""Every cut of a student with the shapes before and after it and how the result is taught: what checks and plans walk
over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from conf.parallel import Parallel
from conf.recipe import Recipe
from conf.shape import Shape
from conf.shapes import candidates, cut_shape
from conf.stages.distill import DistillConfig
from conf.stages.prune import PruneConfig
from conf.stages.search import Halving, SearchConfig


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One cut. `where` names it in the recipe, `taught_at` its distillation; `teacher` teaches; `last` is what formats
    are made of."""

    where: str
    parallel: Parallel
    before: Shape
    after: Shape
    how: DistillConfig | None
    taught_at: str
    teacher: Shape
    last: bool = True
    ranked: bool = True


def cuts(recipe: Recipe, name: str, teacher: Shape) -> list[Cut]:
    """The cuts of a student in order, or all candidates of its search; ValueError where one does not fit what it
    cuts."""
    student = recipe.students[name]
    if student.search:
        return _searched(recipe, name, student.search, teacher)
    found: list[Cut] = []
    before, whose = teacher, "the teacher"
    for number, one in enumerate(student.cuts):
        where = f"students.{name}.rounds.{number}" if student.rounds else f"students.{name}"
        after = cut_shape(f"{where}.prune", one.prune, before, whose)
        own = f"{where}.distill" if one.distill else f"students.{name}.distill" if student.distill else "distill"
        found.append(
            Cut(
                where=f"{where}.prune",
                parallel=one.prune.parallel,
                before=before,
                after=after,
                how=recipe.distill_of(name, number) if student.rounds else recipe.distill_of(name),
                taught_at=own,
                teacher=teacher if one.teacher == "original" else before,
                last=number == len(student.cuts) - 1,
                ranked=bool(one.prune.ranked),
            )
        )
        before, whose = after, f"the student of round {number + 1}"
    return found


def _searched(recipe: Recipe, name: str, search: SearchConfig, teacher: Shape) -> list[Cut]:
    where, how = f"students.{name}.search", recipe.distill_of(name)
    found = candidates(where, search, teacher)
    if search.halving.sizes(len(found)) and not (how and how.steps):
        raise ValueError(
            f"{where}.halving compares {search.halving.top_k} candidates after a short distillation, but {name} is not"
            " distilled; give distill, or halving.top_k=1 to take the best quick score"
        )
    own = f"students.{name}.distill" if recipe.students[name].distill else "distill"
    return [
        Cut(where=where, parallel=search.parallel, before=teacher, after=shape, how=how, taught_at=own, teacher=teacher)
        for shape in found
    ]


def check_names(recipe: Recipe) -> None:
    """Models of rounds and candidates are called NAME-r1, NAME-c1: no student may be called so beside a student NAME
    that has them."""
    for name, student in recipe.students.items():
        letter = "r" if student.rounds else "c" if student.search else None
        for other in recipe.students:
            if letter and re.match(rf"{re.escape(name)}-{letter}\d+(-|$)", other):
                what = "round" if letter == "r" else "candidate"
                raise ValueError(f"students.{other} has the name of a {what} of students.{name}; choose another")


def prune_of(search: SearchConfig, sizes: Mapping[str, int], teacher: Mapping[str, int]) -> PruneConfig:
    """A candidate as the prune that makes it: the same as a recipe that names its sizes, so both share one artifact."""
    settings = {"ranking": search.ranking, "seed": search.seed, "parallel": search.parallel}
    return PruneConfig.model_validate({axis: size for axis, size in sizes.items() if size != teacher[axis]} | settings)


UNWATCHED = {
    "keep": "last",
    "best_by": "val_kl",
    "patience": None,
    "min_delta": 0.0,
    "evaluate_every": None,
    "evaluate_limit": None,
    "offline": False,
}
"""Short rounds run to their end: candidates are compared after the same tokens, and nobody asks them questions on the
way. The teacher itself teaches them: stored logits need not cover the other samples that a later round sees."""


def round_of(how: DistillConfig, halving: Halving, number: int) -> DistillConfig:
    """How candidates are taught in round `number`, from 0: twice the steps of the round before, warm-up in proportion,
    other samples."""
    steps = (halving.steps or max(1, how.steps // 10)) * 2**number
    schedule = {"steps": steps, "warmup_steps": how.warmup_steps * steps // how.steps, "seed": how.seed + number}
    return type(how).model_validate(how.model_dump() | schedule | UNWATCHED | {"evaluation": None})
