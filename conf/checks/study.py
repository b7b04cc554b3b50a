"""Checks of a recipe's study before its first trial: its keys, its models and its metrics are the recipe's."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel

from conf.checks.asked import check_asked
from conf.checks.claims import students_models
from conf.recipe import Recipe
from conf.stages.evaluate import EvaluateConfig
from conf.study import Objective
from conf.wording import choices, model_in

UNTRIED = ("description", "project", "study", "claims", "winner", "card", "serve", "ladder", "contamination", "gates")
"""Sections that change no model."""


def check_study(recipe: Recipe) -> None:
    """Raise ValueError for a space that names no key of the recipe, or an objective that its run does not measure."""
    study = recipe.study
    check_split(recipe.evaluate)
    if study is None:
        return
    for key in study.space:
        _check_key(recipe, key)
    for number, objective in enumerate(study.objectives, start=1):
        _check_objective(recipe, f"study.objectives.{number}", objective)
    if recipe.engine == "nemo":
        raise ValueError("engine is nemo, whose trainings a study cannot compare yet; set engine: megatron")


def check_split(evaluate: EvaluateConfig) -> None:
    """Raise ValueError for a report on another split than its words say."""
    if evaluate.split != "test":
        raise ValueError(
            f"evaluate.split is {evaluate.split}, but reports are of the test split, and a study scores its trials on"
            " the validation split by itself; remove it"
        )


def _check_key(recipe: Recipe, key: str) -> None:
    """Raise ValueError, with the nearest name, for a key that the recipe has not, or that changes no model."""
    section = key.partition(".")[0]
    if section == "evaluate":
        raise ValueError(f"study.space.{key} changes how models are measured, not the models; remove it")
    if section in UNTRIED:
        raise ValueError(f"study.space.{key} changes no model; remove it")
    here: Any = recipe
    for depth, part in enumerate(key.split(".")):
        names = _names(here)
        if part not in names:
            nearest = difflib.get_close_matches(part, names, n=1)
            where = ".".join(key.split(".")[:depth]) or "a recipe"
            hint = f"the nearest is {nearest[0]}" if nearest else f"choose one of {', '.join(names)}" if names else ""
            raise ValueError(
                f"study.space.{key} is no key of this recipe: {where} has no {part}{f'; {hint}' if hint else ''}"
            )
        here = _inside(here, part)


def _names(here: Any) -> list[str]:
    """Names inside a section, or inside the class of one that is not set."""
    if isinstance(here, dict):
        return list(here)
    kind = here if isinstance(here, type) else type(here)
    return list(kind.model_fields) if issubclass(kind, BaseModel) else []


def _inside(here: Any, part: str) -> Any:
    """The value of a name, or the class of its section where it is null."""
    if isinstance(here, dict):
        return here[part]
    kind: Any = here if isinstance(here, type) else type(here)
    value = None if isinstance(here, type) else getattr(here, part)
    below = model_in(kind.model_fields[part].annotation)
    return below if value is None and below is not None and issubclass(below, BaseModel) else value


def _check_objective(recipe: Recipe, where: str, objective: Objective) -> None:
    models = students_models(recipe)
    if objective.model not in models:
        raise ValueError(
            f"{where}.model is {objective.model}, which no trial makes; {choices(objective.model, models)}"
        )
    if objective.by == "mmlu" and recipe.evaluate.mmlu is None:
        raise ValueError(f"{where}.by is mmlu but evaluate.mmlu is null, so no stage gives it; choose another metric")
    check_asked(f"{where}.by", objective.by, recipe.evaluate)
