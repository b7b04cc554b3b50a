"""Where the trials of a study are compared on the way: the steps of a student's distillation."""

from __future__ import annotations

from conf.recipe import Recipe
from conf.stages.distill import DistillConfig
from conf.study import StudyConfig


def compared_student(recipe: Recipe, study: StudyConfig) -> str:
    """The student whose curve is compared: that of the objective's model. Raises ValueError if there is none."""
    model = study.objectives[0].model
    owners = [name for name in recipe.students if model == name or model.startswith(f"{name}-")]
    if not owners or model.endswith("-pruned") or not recipe.distill_of(max(owners, key=len)):
        raise ValueError(f"study.stop compares validation curves, but {model} is not distilled; remove stop")
    return max(owners, key=len)


def stopping_steps(recipe: Recipe, study: StudyConfig) -> tuple[int, ...]:
    """The steps after which trials are compared, each a validation. Raises ValueError where there are none."""
    assert study.stop is not None, "the caller asks a study that stops trials"
    student = compared_student(recipe, study)
    config = recipe.distill_of(student)
    assert config is not None
    _check(recipe, student, config, study)
    every = config.validate_every
    steps = tuple(max(1, round(share * config.steps / every)) * every for share in study.stop.at)
    if len(set(steps)) < len(steps) or steps[-1] >= config.steps:
        shares = ", ".join(f"{share:g}" for share in study.stop.at)
        raise ValueError(
            f"study.stop.at is {shares} of {config.steps} steps, but distill.validate_every is {every}, so these points"
            f" are steps {', '.join(map(str, steps))}; lower validate_every, or list fewer points"
        )
    return steps


def _check(recipe: Recipe, student: str, config: DistillConfig, study: StudyConfig) -> None:
    settings = recipe.students[student]
    if settings.search or settings.branches is not None or settings.branch_of is not None:
        what = "search" if settings.search else "branches"
        raise ValueError(
            f"study.stop stops the distillation of {student} on its way, which has {what}; remove one of the two"
        )
    if config.offline and study.objectives[0].by == "kl_teacher":
        raise ValueError(
            "study.stop compares kl_teacher on the way, which distill.offline does not validate; choose val_loss, or"
            " remove one of the two"
        )


def check_stop(study: StudyConfig, recipes: list[Recipe]) -> None:
    """Raise ValueError for trials that cannot be compared on the way; `recipes` are those at the space's ends."""
    if study.stop is None:
        return
    lengths = set()
    for recipe in recipes:
        config = recipe.distill_of(compared_student(recipe, study))
        assert config is not None
        stopping_steps(recipe, study)
        lengths.add((config.steps, config.global_batch, config.seq_length, config.validate_every))
    if len(lengths) > 1:
        raise ValueError(
            "study.stop compares trials after equal tokens, but the space changes the steps, batch, length or"
            " validate_every of the distillation; take these out of the space, or remove stop"
        )
