"""The recipe of a trial: a recipe's values with a point of its study's space laid over them."""

from __future__ import annotations

from typing import Any

from conf.inherit import layered
from conf.load import override, read, validate_recipe
from conf.recipe import Recipe
from conf.stopping import check_stop
from conf.study import Point, StudyConfig

CORNERS = 128
"""Combinations that are checked before the first trial."""
TAUGHT = ("distill", "sft")


def load_study(preset: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """The values of a recipe with a study, checked, but not completed. Raises ValueError."""
    values = read(preset)
    for text in overrides or []:
        values = override(values, text)
    check_study_values(values)
    return values


def check_study_values(values: dict[str, Any]) -> StudyConfig:
    """The study of these values. Raises ValueError if there is none, or the recipe refuses one of its values."""
    study = validate_recipe(values).study
    if study is None:
        raise ValueError("the recipe has no study section; add one with space and objectives, or run it with imbik run")
    check_space(values, study)
    return study


def trial_recipe(values: dict[str, Any], point: Point, seed: int = 0) -> Recipe:
    """The checked recipe of a trial; `values` are those of the study's recipe before they are completed. With a `seed`
    above 0, what it teaches has a fresh one. Raises ValueError."""
    values = {key: value for key, value in values.items() if key != "study"}
    for key, value in point.items():
        values = layered(values, nested(key, value))
    recipe = validate_recipe(values).model_copy(update={"verify": None})  # exports are compared in the run itself
    if seed:
        recipe = reseeded(recipe, seed, teacher=any(key.startswith("teacher.") for key in point))
    return recipe


def scored_on(recipe: Recipe, split: str) -> Recipe:
    """The recipe with its models scored on this split of the text."""
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"split": split})})


def nested(key: str, value: Any) -> dict[str, Any]:
    """A dotted key as nested sections."""
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def reseeded(recipe: Recipe, seed: int, *, teacher: bool = False) -> Recipe:
    """The recipe whose students, and with `teacher` its teacher too, learn with other seeds: each `seed` higher."""

    def taught(config: Any) -> Any:
        return config and config.model_copy(update={"seed": config.seed + seed})

    students = {}
    for name, student in recipe.students.items():
        update: dict[str, Any] = {part: taught(getattr(student, part)) for part in TAUGHT}
        if student.rounds:
            rounds = (round_.model_copy(update={"distill": taught(round_.distill)}) for round_ in student.rounds)
            update["rounds"] = tuple(rounds)
        students[name] = student.model_copy(update=update)
    changed: dict[str, Any] = {part: taught(getattr(recipe, part)) for part in TAUGHT} | {"students": students}
    if teacher:
        changed["teacher"] = taught(recipe.teacher)
    return recipe.model_copy(update=changed)


def check_space(values: dict[str, Any], study: StudyConfig) -> None:
    """Raise ValueError, with the point, for values of the space that the recipe refuses, or trials that cannot be
    compared on the way."""
    recipes = []
    for point in study.corners(CORNERS):
        try:
            recipes.append(trial_recipe(values, point))
        except ValueError as error:
            raise ValueError(f"study.space has {described(point)}, which the recipe refuses: {error}") from error
    check_stop(study, recipes)


def described(point: Point) -> str:
    """A point for people."""
    return ", ".join(f"{key}={shown(value)}" for key, value in point.items())


def shown(value: Any) -> str:
    """A value of a point, short."""
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
