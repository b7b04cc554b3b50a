"""The report's sections on quantization: the layers that each format hurts most, and the formats that AutoQuantize
chose for each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tasks.report.section import Section

WORST = 10
"""Layers shown in the table; the drawing has all."""
EXACT = "exact"


def gather(folders: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What quantize.json says of each quantized model, by model; `folders` holds their artifacts."""
    kept = ("layers", "kv_cache", "auto", "qad", "samples", "tokens")
    found = {}
    for model, folder in folders.items():
        record = json.loads((Path(folder) / "quantize.json").read_text())
        found[model] = {key: record[key] for key in kept if key in record}
    return found


def sections(report: dict[str, Any]) -> list[Section]:
    """The sections that have something to say."""
    formats: dict[str, dict[str, Any]] = {
        name: told for name, told in report.get("formats", {}).items() if told.get("layers")
    }
    if not formats:
        return []
    mixed = {name: told["auto"] for name, told in formats.items() if "auto" in told}
    return [_errors(formats), *([_choices(mixed)] if mixed else [])]


def _errors(formats: dict[str, dict[str, Any]]) -> Section:
    """The layers with the least signal to noise in their outputs, over all formats."""
    lines = [
        (_power(layer["outputs_db"]), model, name, layer)
        for model, told in formats.items()
        for name, layer in told["layers"].items()
    ]
    worst = sorted(lines, key=lambda line: line[:3])[:WORST]
    sentences = []
    for model, told in formats.items():
        name, layer = min(told["layers"].items(), key=lambda entry: _power(entry[1]["outputs_db"]))
        seen = f"{told['samples']:,} sequences of {told['tokens']:,} tokens"
        sentences.append(
            f"{model}: {name} loses most, {decibels(layer['outputs_db'])} in its outputs; every quantizer saw {seen}."
        )
    rows = tuple(
        (
            model,
            name,
            layer["format"],
            decibels(layer["weights_db"]),
            decibels(layer["outputs_db"]),
            f"{layer['tokens']:,}",
        )
        for _, model, name, layer in worst
    )
    return Section(
        title="What quantization does to each layer",
        sentences=tuple(sentences),
        header=("model", "layer", "stored as", "weights", "outputs", "tokens seen"),
        rows=rows,
        notes=(
            (
                f"Signal to noise in dB, the {len(rows)} worst of {len(lines)}: weights against those before they were"
                " rounded (after the calibrator smoothed them), outputs against unrounded weights and inputs on what"
                " arrives at the layer in the quantized model. 6 dB are one bit."
            ),
        ),
        pictures={"quantization-error": "The worst output of each decoder layer; lower is worse."},
    )


def _choices(mixed: dict[str, dict[str, Any]]) -> Section:
    """The formats of each mix, group by group of layers that share one."""
    sentences, rows = [], []
    for model, auto in mixed.items():
        counted: dict[str, int] = {}
        for group in auto["groups"]:
            counted[group["format"]] = counted.get(group["format"], 0) + len(group["layers"])
        told = ", ".join(
            f"{count} in {form}" if form != "none" else f"{count} as they are"
            for form, count in sorted(counted.items())
        )
        sentences.append(
            f"{model}: {auto['effective_bits']:.2f} bits a weight of {auto['asked_bits']:g} allowed"
            f" ({auto['least_bits']:.2f} is the least), by {auto['method']}: of {sum(counted.values())} layers {told}."
        )
        for group in auto["groups"]:
            scores = ", ".join(f"{form} {score:.3g}" for form, score in group["scores"].items() if form != "none")
            rows.append((model, _together(group["layers"]), group["format"], scores or "-"))
    return Section(
        title="A format for each layer",
        sentences=tuple(sentences),
        header=("model", "layers", "format", "scores (lower is better)"),
        rows=tuple(rows),
        notes=(
            (
                "Chosen by ModelOpt's AutoQuantize from the sensitivity of each group of layers that engines run as one"
                " matrix. Bits are counted over all linear layers, the output layer's 16 included, scales not."
            ),
        ),
        pictures={"chosen-formats": "The bits that each decoder layer's matrices were given."},
    )


def _together(layers: list[str]) -> str:
    """Layers of one parent in one name: model.layers.0.self_attn.{q,k,v}_proj."""
    parents = {layer.rpartition(".")[0] for layer in layers}
    if len(layers) == 1 or len(parents) > 1:
        return ", ".join(layers)
    names = [layer.rpartition(".")[2].removesuffix("_proj") for layer in layers]
    return f"{parents.pop()}.{{{','.join(names)}}}_proj"


def decibels(value: float | None) -> str:
    """Signal to noise in words."""
    return EXACT if value is None else f"{value:.1f} dB"


def _power(value: float | None) -> float:
    return float("inf") if value is None else value


def place(layer: str) -> tuple[int, str] | None:
    """Decoder layer and matrix of a module's name; None for one outside the decoder layers."""
    found = re.search(r"\.(\d+)\.(?:\w+\.)*(\w+)$", layer)
    return (int(found[1]), found[2].removesuffix("_proj")) if found else None
