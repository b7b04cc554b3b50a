"""Checks of students that share a stable phase: it is the same one, and no decay begins after its end."""

from __future__ import annotations

from conf.base import flat
from conf.branches import stable_end, trunks
from conf.recipe import Recipe
from conf.stages.distill import DistillConfig
from conf.stages.trunk import stable_trunk


def check_branches(recipe: Recipe) -> None:
    """Raise ValueError for the first student whose branches cannot come from one stable phase."""
    _check_untouched(recipe)
    for name, student in recipe.students.items():
        if student.branches is not None:
            _check_base(recipe, name)
        if student.branch_of is not None:
            _check_branch(recipe, name, student.branch_of)


def _check_untouched(recipe: Recipe) -> None:
    configs = {"distill": recipe.distill}
    for name, student in recipe.students.items():
        configs[f"students.{name}.distill"] = student.distill
        for number, round_ in enumerate(student.rounds or (), start=1):
            configs[f"students.{name}.rounds.{number}.distill"] = round_.distill
    for where, config in configs.items():
        if config and config.begun:
            raise ValueError(
                f"{where}.begun is {config.begun}, but it is filled in where students share steps; remove it, and set"
                " students.NAME.branches"
            )


def _check_base(recipe: Recipe, name: str) -> None:
    """A student with `branches`: it has a stable phase, and its branches are students of their own lengths."""
    student, where = recipe.students[name], f"students.{name}.branches"
    if student.branch_of is not None:
        raise ValueError(f"{where} is set, but {name} is a branch of {student.branch_of} itself; set it there alone")
    if student.prune is None:
        raise ValueError(f"{where} needs a student with prune, not search or rounds; remove it")
    config = recipe.distill_of(name)
    if config is None or not config.steps:
        raise ValueError(f"{where} is set but {name} is not distilled, so there are no steps to share; set distill")
    _check_stable(where, name, config)
    for steps in student.branches or ():
        if steps >= config.steps:
            longer = steps > config.steps
            what = f"more than its own {config.steps}" if longer else "its own steps"
            remedy = (
                f"raise its distill.steps to {steps} and list {config.steps} instead; steps that are made stay"
                if longer
                else "list shorter ones"
            )
            raise ValueError(f"{where} lists {steps}, which is {what}; {remedy}")
        if student.branches and student.branches.count(steps) > 1:
            raise ValueError(f"{where} lists {steps} twice; list it once")
        other = recipe.students.get(f"{name}-{steps}")
        if other is None or other.branch_of != name:
            raise ValueError(
                f"{where} lists {steps}, so {name}-{steps} is that branch, but the recipe has another student of this"
                " name; rename that one"
            )


def _check_stable(where: str, name: str, config: DistillConfig) -> None:
    """Raise ValueError where a distillation has no stable phase that another may share."""
    stable = config.schedule.stable_steps(config.steps)
    if stable is None:
        raise ValueError(
            f"{where} needs a stable phase, but the schedule of {name} is {config.schedule.name}, whose rate depends on"
            " the number of steps from the start; choose schedule wsd or constant"
        )
    if stable < 1:
        raise ValueError(
            f"{where} needs a stable phase, but the decay of {name} takes all its {config.steps} steps; lower"
            " schedule.decay_share"
        )
    if config.retry:
        raise ValueError(
            f"{where} shares steps of {name}, but distill.retry may give some of them a smaller rate; remove retry"
        )
    average = config.average
    if average and average.kind == "mean" and config.steps - average.reach <= stable:
        raise ValueError(
            f"{where}: average.last and every of {name} reach back {average.reach} steps, into the stable phase, which"
            f" ends {config.steps - stable} steps before its last; choose fewer or closer ones, or kind ema"
        )


def _check_branch(recipe: Recipe, name: str, base: str) -> None:
    """A student with `branch_of`: its cut and its stable phase are those of the student that it names."""
    student, where = recipe.students[name], f"students.{name}.branch_of"
    if base not in recipe.students or recipe.students[base].branches is None:
        problem = "has no branches" if base in recipe.students else "is no student of this recipe"
        raise ValueError(f"{where} is {base}, which {problem}; name a student that sets branches, if only to []")
    other = recipe.students[base]
    if student.origin != other.origin:
        raise ValueError(f"{where} is {base}, but {name} is cut in another way; give both the same prune")
    if student.text != other.text:
        raise ValueError(
            f"{where} is {base}, but {name} learns from {student.text} text and {base} from {other.text}; give both the"
            " same text"
        )
    config, theirs = recipe.distill_of(name), recipe.distill_of(base)
    if config is None or theirs is None or not config.steps:
        raise ValueError(f"{where} is {base}, but {name} or {base} is not distilled; set distill")
    _check_stable(f"students.{name}.distill", name, config)
    ours, end = stable_end(recipe, name), stable_end(recipe, base)
    if ours > end:
        raise ValueError(
            f"{where} is {base}, but the decay of {name} begins after step {ours}, past the stable phase of {base},"
            f" which ends after step {end}; lower its distill.steps, lengthen its decay, or raise those of {base}"
        )
    mine, shared = (flat(stable_trunk(each, ours).identity()) for each in (config, theirs))
    differing = [key for key in mine.keys() | shared.keys() if mine.get(key) != shared.get(key) and key != "seed"]
    if differing:
        key = min(differing)
        raise ValueError(
            f"{where} is {base}, but distill.{key} is {mine.get(key)} for {name} and {shared.get(key)} for {base}, so"
            " their stable phases differ; give both the same, or remove branch_of"
        )
    assert trunks(recipe, name)
