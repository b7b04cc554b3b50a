"""Checks of a blend against the training stages."""

from __future__ import annotations

from collections.abc import Iterator

from conf.recipe import Recipe
from conf.stages.training import Training


def check_blend(recipe: Recipe) -> None:
    """Raise ValueError for the first problem."""
    if recipe.blend is None:
        return
    if recipe.stores_logits:
        raise ValueError(
            "distill.offline does not work with a blend, because logits are stored by position in a single corpus;"
            " remove one of the two"
        )
    most = recipe.blend.tokens
    for where, config in _training(recipe):
        if most is not None and config.tokens > most:
            raise ValueError(
                f"{where} trains on {config.tokens:,} tokens ({config.steps} steps of {config.global_batch} x"
                f" {config.seq_length}) but blend.tokens is {most:,}; raise blend.tokens or choose fewer steps"
            )


def _training(recipe: Recipe) -> Iterator[tuple[str, Training]]:
    """The stages that train on the corpus."""
    yield "teacher", recipe.teacher
    for name, student in recipe.students.items():
        for number in range(len(student.rounds or (None,))):
            if config := recipe.distill_of(name, number):
                yield f"distill of {name}", config
