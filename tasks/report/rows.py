"""The rows of the report: each model's sealed scores, and its differences from the models it is compared with."""

from __future__ import annotations

import json
from pathlib import Path

from conf.recipe import Recipe
from conf.report.row import ModelScores, Recovered, Row
from tasks.analysis.comparisons import answers_of, compare, losses_of, recovered
from tasks.report.model import ReportModel
from tasks.store import lineage


def model_scores(model: ReportModel) -> ModelScores:
    """A model's names and its sealed scores."""
    content = json.loads((Path(model.scores) / "scores.json").read_text())
    scores = {key: content[key] for key in ModelScores.model_fields if key in content}
    names = {key: getattr(model, key) for key in ("model", "stage", "student", "format", "path")}
    return ModelScores.model_validate(scores | names)


def recipe_rows(recipe: Recipe, models: list[ReportModel]) -> tuple[Row, ...]:
    """A row for each model of a recipe's run, in order; the teacher is one of them."""
    by_name = {model.model: model_scores(model) for model in models}
    answers = {model.model: answers_of(model.scores) for model in models}
    losses = {model.model: losses_of(model.scores) for model in models}
    teacher = by_name["teacher"]
    differences = {name: compare(scores, teacher, answers, losses) for name, scores in by_name.items()}

    def unquantized(scores: ModelScores) -> ModelScores | None:
        if scores.stage != "quantize":
            return None
        student = scores.student
        return next(by_name[name] for name in (f"{student}-sft", f"{student}", f"{student}-pruned") if name in by_name)

    def recovered_share(scores: ModelScores) -> Recovered | None:
        pruned = f"{scores.model}-pruned"
        if scores.stage != "distill":
            return None
        return recovered(scores, by_name[pruned], teacher, differences[pruned])

    rows = []
    for name, scores in by_name.items():
        base = unquantized(scores)
        rows.append(
            Row(
                **scores.model_dump(),
                share_params=scores.num_params / teacher.num_params,
                baseline=recipe.students[scores.student].baseline if scores.student in recipe.students else None,
                taught=_taught(recipe, scores),
                against_teacher=differences[name],
                against_student=compare(scores, base, answers, losses) if base else None,
                recovered=recovered_share(scores),
            )
        )
    return tuple(rows)


def _taught(recipe: Recipe, scores: ModelScores) -> bool | None:
    """Whether a student's model was distilled or fine-tuned, itself or before it was quantized; None: no student."""
    if scores.student is None:
        return None
    taught = scores.student in recipe.students and {"distill", "sft"} & set(recipe.stages_of(scores.student))
    return scores.stage in ("distill", "sft") or (scores.stage == "quantize" and bool(taught))


def standalone_rows(models: list[ReportModel]) -> tuple[Row, ...]:
    """A row for each of some models that belong to no recipe; the first is what the others are compared with."""
    all_scores = [model_scores(model) for model in models]
    answers = {model.model: answers_of(model.scores) for model in models}
    losses = {model.model: losses_of(model.scores) for model in models}
    return tuple(
        Row(
            **scores.model_dump(),
            share_params=scores.num_params / all_scores[0].num_params,
            taught=lineage.taught(Path(scores.path).parent),
            against_teacher=compare(scores, all_scores[0], answers, losses),
        )
        for scores in all_scores
    )
