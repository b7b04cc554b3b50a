"""Checks that the run produces and measures the models of its claims and its winner."""

from __future__ import annotations

from typing import Any

from conf.checks.asked import check_asked
from conf.checks.reviewed import check_reviewed
from conf.inherit import TAUGHT
from conf.recipe import Recipe
from conf.stages.contamination import ContaminationConfig
from conf.student import Student
from conf.wording import choices


def check_claims(recipe: Recipe) -> None:
    """Raise ValueError for a claim about a model that the run does not produce, or a metric that it does not
    measure."""
    models = ["teacher", *(["teacher-sft"] if recipe.teacher_sft else []), *students_models(recipe)]
    for name, claim in recipe.claims.items():
        if claim is None:
            continue
        for role, model in (("model", claim.model), ("than", claim.than)):
            if model not in models:
                raise ValueError(
                    f"claims.{name}.{role} is {model}, which the run does not produce; {choices(model, models)}"
                )
        if claim.model == claim.than:
            raise ValueError(f"claims.{name} compares {claim.model} with itself; choose another model for than")
        if claim.by == "mmlu" and recipe.evaluate.mmlu is None:
            raise ValueError(f"claims.{name}.by is mmlu but evaluate.mmlu is null; choose another metric")
        check_asked(f"claims.{name}.by", claim.by, recipe.evaluate)
        if claim.by == "tokens_per_second" and not recipe.evaluate.new_tokens:
            raise ValueError(
                f"claims.{name}.by is tokens_per_second but evaluate.new_tokens is 0; raise evaluate.new_tokens"
            )


UNLIKE = ("seed", "seeds", "branches", "branch_of")
"""What a student and its copies with other seeds need not have in common."""


def check_seeds(recipe: Recipe) -> None:
    """Raise ValueError for a student of several seeds that has nothing to draw, or whose copies are other students."""
    for name, student in recipe.students.items():
        for number, copy in enumerate(recipe.copies(name), start=2):
            ours = recipe.students.get(copy)
            if ours is None or _but_seeds(ours) != _but_seeds(student):
                raise ValueError(
                    f"students.{name}.seeds is {student.seeds}, so {copy} is its copy with seed {number}, but the"
                    " recipe has another student of this name; rename that one"
                )
            if ours == student.model_copy(update={"seeds": 1}):
                raise ValueError(
                    f"students.{name}.seeds is {student.seeds}, but nothing of it is drawn at random; remove seeds, or"
                    " distil it"
                )
    for name, claim in recipe.claims.items():
        counts = {_seeds(recipe, claim.model), _seeds(recipe, claim.than)} - {1} if claim else set()
        if len(counts) > 1:
            raise ValueError(
                f"claims.{name} compares students of {' and '.join(map(str, sorted(counts)))} seeds; give both as many"
            )


def _but_seeds(student: Student) -> Any:
    """What a student and its copies have in common."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(each) for key, each in value.items() if key not in UNLIKE}
        return [bare(each) for each in value] if isinstance(value, (list, tuple)) else value

    content: dict[str, Any] = bare(student.model_dump(mode="json"))
    return {key: value for key, value in content.items() if key not in TAUGHT}


def _seeds(recipe: Recipe, model: str) -> int:
    """Seeds of the student that a model belongs to; 1 for other models."""
    owners = [name for name in recipe.students if model == name or model.startswith(f"{name}-")]
    return recipe.students[max(owners, key=len)].seeds if owners else 1


def check_winner(recipe: Recipe) -> None:
    """Raise ValueError for a winner that the run does not produce, or a metric that it does not measure."""
    winner, models = recipe.winner, students_models(recipe)
    if winner and winner.model and winner.model not in models:
        raise ValueError(
            f"winner.model is {winner.model}, which the run does not produce; {choices(winner.model, models)}"
        )
    if winner and winner.by == "mmlu" and recipe.evaluate.mmlu is None:
        raise ValueError("winner.by is mmlu but evaluate.mmlu is null; choose another metric")
    if winner and winner.by:
        check_asked("winner.by", winner.by, recipe.evaluate)


def check_contamination(recipe: Recipe) -> None:
    """Raise ValueError for a search for questions that the recipe does not ask, and for settings in the wrong place."""
    config, evaluate = recipe.contamination, recipe.evaluate
    for name in ("data", "records", "generate"):
        if getattr(recipe, name) and getattr(recipe, name).decontaminate:
            raise ValueError(f"{name}.decontaminate is set, but a recipe takes it from contamination; set it there")
    if config is None:
        return
    if config.mmlu:
        raise ValueError("contamination.mmlu is set, but the questions are those of evaluate.mmlu; set them there")
    if not evaluate.mmlu and not evaluate.benchmarks and config != ContaminationConfig():
        raise ValueError(
            "contamination is set but evaluate.mmlu is null and there are no evaluate.benchmarks, so there are no"
            " questions; remove one"
        )
    check_reviewed("contamination.reviewed", config.reviewed, recipe.data, evaluate.mmlu, evaluate.benchmarks)


def students_models(recipe: Recipe) -> list[str]:
    """Names of the student models that the run produces."""
    models = []
    for name in recipe.students:
        suffixes = {
            "prune": ["-pruned"],
            "distill": [""],
            "sft": ["-sft"],
            "quantize": [f"-{entry.name}" for entry in recipe.formats_of(name)],
        }
        models += [f"{name}{suffix}" for stage in recipe.stages_of(name) for suffix in suffixes.get(stage, [])]
    return models
