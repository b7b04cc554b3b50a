"""A student's formats in the flow: the stages that make them, and what those wait for."""

from __future__ import annotations

from typing import Any

from conf.recipe import Recipe
from conf.stages.quantize import label_of, scorings
from flows.gates import Gates
from flows.model import Future, Made
from tasks.stages.quantize import quantize
from tasks.stages.sensitivity import sensitivity


def make(
    recipe: Recipe, student: str, last: Made, corpus: Future, behind: tuple[Future, ...], gates: Gates
) -> list[Made]:
    """Submit the student's formats, quantized from its `last` model, each behind the gates of the stages before it."""
    after: dict[str, Any] = {"wait_for": behind, "return_state": False}
    configs = scorings(student, recipe.formats_of(student))
    scores: dict[str, Future] = {
        label: sensitivity.submit(label, config, model=last.artifact, data=corpus, **after)
        for label, config in configs.items()
    }
    made = []
    for config in recipe.formats_of(student):
        model, label = f"{student}-{config.name}", label_of(config, configs)
        smaller: Future = quantize.submit(
            f"quantize-{model}",
            config,
            model=last.artifact,
            data=corpus,
            sensitivity=scores[label] if label else None,
            **after,
        )
        made.append(
            Made(model=model, stage="quantize", artifact=smaller, student=student, form=config.name, gates=behind)
        )
        gates.after(made[-1], last)
    return made
