"""Claims that a run could not decide, known before anything runs."""

from __future__ import annotations

from conf.recipe import Recipe


def check_claims(recipe: Recipe) -> None:
    """Raise ValueError for a claim about a model that the run does not make, or by what it does not measure."""
    made = ["teacher", *(["teacher-sft"] if recipe.teacher_sft else []), *students_models(recipe)]
    for name, claim in recipe.claims.items():
        if claim is None:
            continue
        for role, model in (("model", claim.model), ("than", claim.than)):
            if model not in made:
                raise ValueError(
                    f"claims.{name}.{role} is {model}, which the run does not make; choose one of {', '.join(made)}"
                )
        if claim.model == claim.than:
            raise ValueError(f"claims.{name} compares {claim.model} with itself; name another model as than")
        if claim.by == "mmlu" and recipe.evaluate.mmlu is None:
            raise ValueError(
                f"claims.{name} is by mmlu, which evaluate.mmlu: null does not measure; choose another metric"
            )
        if claim.by == "tokens_per_second" and not recipe.evaluate.new_tokens:
            raise ValueError(
                f"claims.{name} is by tokens_per_second, which evaluate.new_tokens: 0 does not time; choose more than 0"
            )


def check_winner(recipe: Recipe) -> None:
    """Raise ValueError for a winner that the run does not make, or that is judged by what it does not measure."""
    winner, made = recipe.winner, students_models(recipe)
    if winner and winner.model and winner.model not in made:
        raise ValueError(
            f"winner.model is {winner.model}, which the run does not make; choose one of {', '.join(made)}"
        )
    if winner and winner.by == "mmlu" and recipe.evaluate.mmlu is None:
        raise ValueError("winner.by is mmlu, which evaluate.mmlu: null does not measure; choose another metric")


def students_models(recipe: Recipe) -> list[str]:
    """The models that the run makes of its students."""
    made = []
    for name in recipe.students:
        ends = {
            "prune": ["-pruned"],
            "distill": [""],
            "sft": ["-sft"],
            "quantize": [f"-{each.name}" for each in recipe.formats_of(name)],
        }
        made += [f"{name}{end}" for stage in recipe.stages_of(name) for end in ends.get(stage, [])]
    return made
