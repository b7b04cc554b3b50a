"""The formats of one model: mixed-precision entries share their sensitivity scores; engines may verify each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conf.recipe import Recipe
from conf.stages.quantize import QuantizeConfig, label_of, scorings
from flows.reading import Handle, Model, Stages


def formats(
    stage: Stages, name: str, configs: tuple[QuantizeConfig, ...], **given: Any
) -> Iterator[tuple[QuantizeConfig, Handle]]:
    """Quantize a model to each format; mixed-precision entries share their sensitivity scores."""
    configs_by_label = scorings(name, configs)
    scores = {label: stage(label, config, **given) for label, config in configs_by_label.items()}
    for config in configs:
        label = label_of(config, configs_by_label)
        sensitivity = scores[label] if label else None
        yield config, stage(f"quantize-{name}-{config.name}", config, **given, sensitivity=sensitivity)


def verify(stage: Stages, recipe: Recipe, data: Handle, model: Model) -> None:
    """Let an engine score a quantized model, if the recipe asks for it; `model.verified` gets the comparison."""
    if recipe.verify and model.format and recipe.verify.covers(model.format):
        inputs: dict[str, Any] = {"model": model.artifact, "data": data, "of": model.student, "cut": model.cut}
        model.verified = stage(f"verify-{model.name}", recipe.verify, **inputs)
