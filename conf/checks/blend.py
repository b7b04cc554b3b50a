"""Checks of a blend: its corpora are there, no stage trains on more than it gives, and nothing is asked of it that it
cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from conf.recipe import Recipe
from conf.stages.training import Training


def check_blend(recipe: Recipe) -> None:
    """Raise ValueError with one sentence for the first thing that cannot work."""
    if recipe.blend is None:
        return
    if recipe.stores_logits:
        raise ValueError(
            "distill.offline needs logits, which are stored by a token's place in one corpus, not in a blend; leave one"
            " of them out"
        )
    most = recipe.blend.tokens
    for where, config in _training(recipe):
        if most is not None and config.tokens > most:
            raise ValueError(
                f"{where} trains on {config.tokens:,} tokens ({config.steps} steps of {config.global_batch} x"
                f" {config.seq_length}) but blend.tokens is {most:,}; raise it or choose fewer steps"
            )


def _training(recipe: Recipe) -> Iterator[tuple[str, Training]]:
    """The stages that train on the corpus."""
    yield "teacher", recipe.teacher
    for name, student in recipe.students.items():
        for number in range(len(student.rounds or (None,))):
            if how := recipe.distill_of(name, number):
                yield f"distill of {name}", how
