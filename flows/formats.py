"""The formats of one model: mixed-precision entries share their sensitivity scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conf.stages.quantize import QuantizeConfig, label_of, scorings
from flows.reading import Handle, Stages


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
