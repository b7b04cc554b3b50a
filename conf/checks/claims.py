"""Checks that the run produces and measures the models of its claims and its winner."""

from __future__ import annotations

from conf.claims import BENCHMARKS
from conf.recipe import Recipe


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
                    f"claims.{name}.{role} is {model}, which the run does not produce; choose one of"
                    f" {', '.join(models)}"
                )
        if claim.model == claim.than:
            raise ValueError(f"claims.{name} compares {claim.model} with itself; choose another model for than")
        if claim.by == "mmlu" and recipe.evaluate.mmlu is None:
            raise ValueError(f"claims.{name}.by is mmlu but evaluate.mmlu is null; choose another metric")
        if claim.by in BENCHMARKS and claim.by not in recipe.evaluate.benchmarks:
            raise ValueError(
                f"claims.{name}.by is {claim.by} but evaluate.benchmarks does not ask it; add"
                f" evaluate.benchmarks.{claim.by} or choose another metric"
            )
        if claim.by == "tokens_per_second" and not recipe.evaluate.new_tokens:
            raise ValueError(
                f"claims.{name}.by is tokens_per_second but evaluate.new_tokens is 0; raise evaluate.new_tokens"
            )


def check_winner(recipe: Recipe) -> None:
    """Raise ValueError for a winner that the run does not produce, or a metric that it does not measure."""
    winner, models = recipe.winner, students_models(recipe)
    if winner and winner.model and winner.model not in models:
        raise ValueError(
            f"winner.model is {winner.model}, which the run does not produce; choose one of {', '.join(models)}"
        )
    if winner and winner.by == "mmlu" and recipe.evaluate.mmlu is None:
        raise ValueError("winner.by is mmlu but evaluate.mmlu is null; choose another metric")


def check_contamination(recipe: Recipe) -> None:
    """Raise ValueError for a search for questions that the recipe does not ask."""
    if recipe.contamination and recipe.evaluate.mmlu is None:
        raise ValueError("contamination is set but evaluate.mmlu is null, so there are no questions; remove one")
    if recipe.contamination and recipe.contamination.mmlu:
        raise ValueError("contamination.mmlu is set, but the questions are those of evaluate.mmlu; set them there")


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
