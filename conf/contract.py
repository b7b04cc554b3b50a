"""What each engine would do with the very tensors of a model directory: its formats by the table, then fused layers
that differ, scales of another shape, tensors that an engine needs or does not know.

Reads JSON, the headers of safetensors and single numbers; loads no weights and needs no engine."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conf.engines.table import ENGINES, EngineName, Generation
from conf.engines.verdict import Contents, Verdict, verdicts
from conf.hf_model import INDEX, SINGLE, mixes_experts, read_json, shape_in, shards
from conf.hf_weights import HEAD, Stored, needed, read_headers

CONFIG = "hf_quant_config.json"
MIXED = "MIXED_PRECISION"
SQUARES, SQUARE = "fp8_pb_wo", 128
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("w1", "w3"))
SCALES = ("weight_scale", "weight_scale_2", "input_scale")
"""Of fused layers, engines keep one of each where it is a single number."""
PARTS = (*SCALES, "pre_quant_scale", "k_scale", "v_scale")
LARGEST_FP8, TINY = 448.0, 0.02
"""The largest E4M3 number; the largest weight of a matrix below which SGLang's second packing changes codes
(measured)."""
INT4 = ("W4A16_AWQ", "W4A8_AWQ")
Why = dict[EngineName, list[str]]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A quantized model directory: its settings, ModelOpt's algorithm of each packed layer, and where its tensors
    are."""

    settings: dict[str, Any]
    layers: dict[str, str]
    tensors: dict[str, Stored]

    def stored(self, layer: str, part: str) -> Stored | None:
        """A tensor of a layer, if it is there."""
        return self.tensors.get(f"{layer}.{part}")

    def shape(self, layer: str) -> tuple[int, int]:
        """Outputs and inputs of a layer; INT4 packs two outputs into a byte."""
        rows, columns = self.tensors[f"{layer}.weight"].shape
        return (2 * rows if self.layers[layer] in INT4 else rows), columns


def read(directory: Path) -> Checkpoint | None:
    """The checkpoint in `directory`; None if it is not quantized. Raises ValueError for damaged files."""
    if not (directory / CONFIG).is_file():
        return None
    settings: dict[str, Any] = read_json(directory / CONFIG)["quantization"]
    whole = (directory / SINGLE).is_file() or (directory / INDEX).is_file()
    tensors = read_headers(directory, shards(directory)) if whole else {}
    algorithm, listed = settings.get("quant_algo"), settings.get("quantized_layers") or {}
    names = sorted(name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale"))
    names = [name for name in names if f"{name}.weight" in tensors]
    layers = {
        name: str(listed.get(name, {}).get("quant_algo") if algorithm == MIXED else algorithm)
        for name in (names or listed)
    }
    return Checkpoint(settings=settings, layers=layers, tensors=tensors)


def contents(checkpoint: Checkpoint) -> Contents:
    """What the table needs to know."""
    algorithm, kv = checkpoint.settings.get("quant_algo"), checkpoint.settings.get("kv_cache_quant_algo")
    mixed = algorithm == MIXED
    found = sorted(set(checkpoint.layers.values())) or [str(algorithm)]
    blocks: dict[str, set[int]] = {}
    for layer, name in checkpoint.layers.items():
        if size := _block(checkpoint, layer):
            blocks.setdefault(name, set()).add(size)
    return Contents(
        algorithms=tuple(found),
        mixed=mixed,
        blocks={name: tuple(sorted(sizes)) for name, sizes in blocks.items()},
        kv=str(kv).lower() if kv else None,
    )


def _block(checkpoint: Checkpoint, layer: str) -> int | None:
    """Weights per scale along a row, of algorithms that have a choice."""
    scale = checkpoint.stored(layer, "weight_scale")
    if scale is None or checkpoint.layers[layer] not in (SQUARES, *INT4):
        return None
    rows, columns = checkpoint.shape(layer)
    if checkpoint.layers[layer] in INT4:
        return columns // scale.shape[-1] if len(scale.shape) == 2 else None
    return math.isqrt(rows * columns // math.prod(scale.shape))


def of(directory: Path, generation: Generation | None = None) -> dict[EngineName, Verdict]:
    """The verdict of every engine on a model directory. Raises ValueError for damaged files."""
    checkpoint = read(directory)
    if checkpoint is None:
        return verdicts(Contents(), generation)
    found: Why = {engine: [] for engine in ENGINES}
    notes: Why = {engine: [] for engine in ENGINES}
    _squares(checkpoint, found)
    _fused(checkpoint, found)
    _smoothing(checkpoint, found)
    _unknown(checkpoint, directory, found, notes)
    _tiny(checkpoint, notes)
    family = str(read_json(directory / "config.json", missing={}).get("model_type", ""))
    by_table = verdicts(replace(contents(checkpoint), experts=mixes_experts(directory), family=family), generation)
    return {
        engine: replace(known, why=(*known.why, *found[engine]), notes=(*known.notes, *notes[engine]))
        for engine, known in by_table.items()
    }


def record(judged: dict[EngineName, Verdict]) -> dict[str, Any]:
    """The entry of quantize.json."""
    return {
        engine: {
            "version": ENGINES[engine].version,
            "loads": verdict.loads,
            "known": verdict.known,
            "why": list(verdict.why),
            "notes": list(verdict.notes),
        }
        for engine, verdict in judged.items()
    }


def _squares(checkpoint: Checkpoint, found: Why) -> None:
    """Scales of square blocks that are not [rows, 1, columns, 1]; other block sizes are the table's to refuse."""
    for layer, algorithm in checkpoint.layers.items():
        scale = checkpoint.stored(layer, "weight_scale")
        if algorithm != SQUARES or scale is None or _block(checkpoint, layer) != SQUARE:
            continue
        rows, columns = checkpoint.shape(layer)
        wanted = (-(-rows // SQUARE), 1, -(-columns // SQUARE), 1)
        if scale.shape != wanted:
            for engine in found:
                found[engine].append(f"expects {layer}.weight_scale of shape {list(wanted)}, not {list(scale.shape)}")
            return


def _fused(checkpoint: Checkpoint, found: Why) -> None:
    """Layers that engines run as one matrix: with different algorithms, or with different scales of which one stays."""
    for names in FUSED:
        told: set[str] = set()
        parents = [layer.rpartition(".")[0] for layer in checkpoint.layers if layer.rpartition(".")[2] in names]
        for parent in dict.fromkeys(parents):
            _group(checkpoint, parent, names, found, told)


def _group(checkpoint: Checkpoint, parent: str, names: tuple[str, ...], found: Why, told: set[str]) -> None:
    layers = [f"{parent}.{name}" for name in names]
    what = f"{', '.join(names[:-1])} and {names[-1]}"
    if len({checkpoint.layers.get(layer) for layer in layers}) > 1:
        _tell(found, told, "format", f"runs {what} as one matrix, but their formats differ ({parent})")
        return
    for part in SCALES:
        stored = [each for layer in layers if (each := checkpoint.stored(layer, part))]
        single = len(stored) == len(layers) and all(each.end - each.start == 4 for each in stored)
        if single and len({_bytes(each) for each in stored}) > 1:
            _tell(found, told, part, f"keeps one {part} for {what}, but theirs differ ({parent})")
    smoothed = [each for layer in layers if (each := checkpoint.stored(layer, "pre_quant_scale"))]
    if smoothed and (len(smoothed) < len(layers) or len({_bytes(each) for each in smoothed}) > 1):
        _tell(found, told, "smoothing", f"keeps one pre_quant_scale for {what}, but theirs differ ({parent})")


def _tell(found: Why, told: set[str], kind: str, sentence: str) -> None:
    """Add a sentence once for each kind, for every engine."""
    if kind not in told:
        told.add(kind)
        for engine in found:
            found[engine].append(sentence)


def _smoothing(checkpoint: Checkpoint, found: Why) -> None:
    """TensorRT-LLM's AWQ layers read the smoothing of o_proj and down_proj without asking whether it is there."""
    for layer, algorithm in checkpoint.layers.items():
        smoothed = algorithm in INT4 and layer.endswith(("o_proj", "down_proj"))
        if checkpoint.tensors and smoothed and not checkpoint.stored(layer, "pre_quant_scale"):
            found["tensorrt_llm"].append(f"needs the tensor {layer}.pre_quant_scale")
            return


def _unknown(checkpoint: Checkpoint, directory: Path, found: Why, notes: Why) -> None:
    """Tensors that belong neither to the model nor to its quantization; those of an affine cache are the table's."""
    if not checkpoint.tensors:
        return
    config = json.loads((directory / "config.json").read_text())
    plain = needed(shape_in(config, f"{directory}/config.json")).keys() | {HEAD}
    extra = [
        name
        for name in sorted(checkpoint.tensors)
        if name not in plain and name.rpartition(".")[2] not in (*PARTS, "k_bias", "v_bias")
    ]
    if extra:
        found["vllm"].append(f"knows no tensor {extra[0]}")
        notes["sglang"].append(f"drops the tensor {extra[0]}")


def _tiny(checkpoint: Checkpoint, notes: Why) -> None:
    """SGLang packs FP8 weights again, through fp16; of very small weights some codes change on the way."""
    for layer, algorithm in checkpoint.layers.items():
        scale = checkpoint.stored(layer, "weight_scale")
        if algorithm != "FP8" or scale is None or (scale.dtype, scale.end - scale.start) != ("F32", 4):
            continue
        if (largest := struct.unpack("<f", _bytes(scale))[0] * LARGEST_FP8) < TINY:
            notes["sglang"].append(
                f"packs FP8 weights again through fp16, which changes some of weights as small as {layer}'s"
                f" (at most {largest:.3g})"
            )
            return


def _bytes(stored: Stored) -> bytes:
    with stored.file.open("rb") as stream:
        stream.seek(stored.start)
        return stream.read(stored.end - stored.start)
