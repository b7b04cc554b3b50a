"""The rows of the report: each model's sealed scores, and its differences to the models it is compared with."""

from __future__ import annotations

import json
from pathlib import Path

from conf.recipe import Recipe
from conf.report.row import ModelScores, Recovered, Row
from tasks.analysis.comparisons import answers_of, compare, recovered
from tasks.report.model import Measured


def scores(model: Measured) -> ModelScores:
    """A model's names and what its sealed scores say."""
    content = json.loads((Path(model.scores) / "scores.json").read_text())
    measured = {key: content[key] for key in ModelScores.model_fields if key in content}
    names = {key: getattr(model, key) for key in ("model", "stage", "student", "format", "path")}
    return ModelScores.model_validate(measured | names)


def rows(recipe: Recipe, models: list[Measured]) -> tuple[Row, ...]:
    """A row for each model of a recipe's run; the teacher is one of them."""
    by_name = {model.model: scores(model) for model in models}
    answers = {model.model: answers_of(model.scores) for model in models}
    teacher = by_name["teacher"]
    differences = {name: compare(one, teacher, answers) for name, one in by_name.items()}

    def won_back(one: ModelScores) -> Recovered | None:
        pruned = f"{one.model}-pruned"
        return recovered(one, by_name[pruned], teacher, differences[pruned]) if one.stage == "distill" else None

    found = []
    for one in by_name.values():
        candidates = (f"{one.student}-sft", f"{one.student}", f"{one.student}-pruned")
        base = next(by_name[name] for name in candidates if name in by_name) if one.stage == "quantize" else None
        found.append(
            Row(
                **one.model_dump(),
                share_params=one.num_params / teacher.num_params,
                baseline=recipe.students[one.student].baseline if one.student in recipe.students else None,
                against_teacher=differences[one.model],
                against_student=compare(one, base, answers) if base else None,
                recovered=won_back(one),
            )
        )
    return tuple(found)


def side_by_side(models: list[Measured]) -> tuple[Row, ...]:
    """A row for each of some models that belong to no recipe; the first is what the others are compared with."""
    each = [scores(model) for model in models]
    answers = {model.model: answers_of(model.scores) for model in models}
    return tuple(
        Row(
            **one.model_dump(),
            share_params=one.num_params / each[0].num_params,
            against_teacher=compare(one, each[0], answers),
        )
        for one in each
    )
