"""The report's sections on quantization: the layers with the largest errors, AutoQuantize's choice of formats, and
which inference engines load the models."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

from conf.engines.table import ENGINES
from conf.report.quantization import EngineVerdict, LayerError, Mix, Quantized
from conf.report.section import Section

WORST_SHOWN = 10
"""Layers in the table; the figure shows all."""
UNCHANGED = "no error"


def read_quantized(folders: dict[str, str]) -> dict[str, Quantized]:
    """quantize.json of each quantized model; `folders` are their artifacts by model."""
    return {
        model: Quantized.model_validate_json((Path(folder) / "quantize.json").read_text())
        for model, folder in folders.items()
    }


def sections(quantized: dict[str, Quantized]) -> list[Section]:
    """The error of each layer, the formats of each mix, and who loads the models; empty where no layer was
    measured."""
    models = {model: record for model, record in quantized.items() if record.layers}
    mixes = {model: record.auto for model, record in models.items() if record.auto}
    judged = {model: record.engines for model, record in models.items() if record.engines}
    return (
        ([_errors(models)] if models else [])
        + ([_mixes(mixes)] if mixes else [])
        + ([_engines(judged)] if judged else [])
    )


def _engines(judged: dict[str, dict[str, EngineVerdict]]) -> Section:
    """What each engine would do with each model's tensors."""
    rows = [
        (
            model,
            f"{ENGINES[engine].title if engine in ENGINES else engine} {verdict.version}",
            f"{'loads' if verdict.loads else 'does not load'} ({verdict.known})",
            "; ".join((*verdict.why, *verdict.notes)) or "-",
        )
        for model, engines in judged.items()
        for engine, verdict in engines.items()
    ]
    nowhere = [model for model, engines in judged.items() if not any(each.loads for each in engines.values())]
    return Section(
        title="Inference engines",
        sentences=(f"No engine loads {', '.join(nowhere)}: simulated only.",) if nowhere else (),
        header=("model", "engine", "loads", "what it does"),
        rows=tuple(rows),
        notes=(
            (
                "Judged by the tensors that were written. run: exports of imbik were opened by that engine, on a CPU;"
                " read: from its sources."
            ),
        ),
    )


def _errors(models: dict[str, Quantized]) -> Section:
    """The layers with the lowest signal-to-noise ratio of their outputs, over all formats."""
    layers = [(model, name, layer) for model, record in models.items() for name, layer in record.layers.items()]
    worst = sorted(layers, key=lambda entry: (_ratio(entry[2]), *entry[:2]))[:WORST_SHOWN]
    return Section(
        title="Quantization error by layer",
        sentences=tuple(_worst(model, record) for model, record in models.items()),
        header=("model", "layer", "stored as", "weights", "outputs", "calibration tokens"),
        rows=tuple(
            (
                model,
                name,
                layer.format,
                decibels(layer.weights_db),
                decibels(layer.outputs_db),
                f"{layer.tokens:,}",
            )
            for model, name, layer in worst
        ),
        notes=(
            (
                f"Signal-to-noise ratio in dB, the {len(worst)} worst of {len(layers)} layers. Weights: relative to"
                " those before rounding (after smoothing by the calibrator). Outputs: relative to unrounded weights and"
                " inputs, on the inputs that reach the layer in the quantized model. 6 dB correspond to one bit."
            ),
        ),
        pictures={"quantization-error": "The worst output of each decoder layer; lower is worse."},
    )


def _worst(model: str, record: Quantized) -> str:
    name, layer = min(record.layers.items(), key=lambda entry: _ratio(entry[1]))
    calibrated = ""
    if record.samples is not None and record.tokens is not None:
        calibrated = f" The model was calibrated on {record.samples:,} sequences, {record.tokens:,} tokens."
    return (
        f"{model}: {name} has the largest error, {decibels(layer.outputs_db)} in its outputs.{calibrated}"
        f"{_experts(record)}"
    )


def _experts(record: Quantized) -> str:
    """How many tokens the experts of a mixture saw; empty for a dense model."""
    seen = {name.rpartition(".")[0]: layer.tokens for name, layer in record.layers.items() if ".experts." in name}
    if not seen:
        return ""
    missed = sum(tokens == 0 for tokens in seen.values())
    none = f"; {missed:,} saw none, so that their inputs have the range of their layer's others" if missed else ""
    return f" Its {len(seen):,} experts saw {min(seen.values()):,} to {max(seen.values()):,} of them{none}."


def _mixes(mixes: dict[str, Mix]) -> Section:
    """The format of each group of layers in each mix."""
    rows = []
    for model, mix in mixes.items():
        for group in mix.groups:
            scores = ", ".join(f"{name} {score:.3g}" for name, score in group.scores.items() if name != "none")
            rows.append((model, join_layers(group.layers), group.format, scores or "-"))
    return Section(
        title="Format of each layer",
        sentences=tuple(_mix(model, mix) for model, mix in mixes.items()),
        header=("model", "layers", "format", "sensitivity (lower is better)"),
        rows=tuple(rows),
        notes=(
            (
                "Chosen by ModelOpt's AutoQuantize from the sensitivity of each group of layers that inference engines"
                " run as one matrix. Bits per weight cover all linear layers, including the output layer at 16 bits,"
                " but not the scales."
            ),
        ),
        pictures={"chosen-formats": "Bits per weight of each matrix by decoder layer."},
    )


def _mix(model: str, mix: Mix) -> str:
    counts: Counter[str] = Counter()
    for group in mix.groups:
        counts[group.format] += len(group.layers)
    formats = ", ".join(
        f"{count} unquantized" if name == "none" else f"{count} in {name}" for name, count in sorted(counts.items())
    )
    return (
        f"{model}: {mix.effective_bits:.2f} bits per weight of {mix.asked_bits:g} allowed (at least"
        f" {mix.least_bits:.2f} are possible), chosen by {mix.method}; of {counts.total()} layers, {formats}."
    )


def join_layers(layers: tuple[str, ...]) -> str:
    """Layers of one parent as one name: model.layers.0.self_attn.{q,k,v}_proj."""
    parents = {layer.rpartition(".")[0] for layer in layers}
    if len(layers) == 1 or len(parents) > 1:
        return ", ".join(layers)
    names = [layer.rpartition(".")[2].removesuffix("_proj") for layer in layers]
    return f"{parents.pop()}.{{{','.join(names)}}}_proj"


def decibels(value: float | None) -> str:
    """A signal-to-noise ratio as text; None: there is no noise."""
    return UNCHANGED if value is None else f"{value:.1f} dB"


def _ratio(layer: LayerError) -> float:
    return math.inf if layer.outputs_db is None else layer.outputs_db


def layer_matrix(module: str) -> tuple[int, str] | None:
    """Decoder layer and matrix of a module name; None for a module outside the decoder layers."""
    match = re.search(r"\.(\d+)\.(?:\w+\.)*(\w+)$", module)
    return (int(match[1]), match[2].removesuffix("_proj")) if match else None
