"""The unified quantized checkpoint that ModelOpt exports: which layers it holds packed, whether it is complete, and how
it runs here.

Reads, checks and simulates such checkpoints; `jobs.quantize` makes them."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch

from conf.families import family_of
from conf.formats import KVFormat
from jobs.huggingface import model as hf
from jobs.huggingface.experts import held_name, separate
from jobs.quantization import quantizers
from jobs.quantization.packed_layer import ALGORITHMS, INPUT_BOUND, LARGEST_FP8, Packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIXED = "MIXED_PRECISION"
"""ModelOpt's name for a checkpoint whose layers have different formats."""
CACHE = {"k": ("k_proj", "k_bmm_quantizer"), "v": ("v_proj", "v_bmm_quantizer")}
"""The layer under which the scales of keys and values are stored, and the attention quantizer they belong to."""


@dataclass(frozen=True, kw_only=True)
class QuantizedWeights:
    """The contents of a directory: packed layers by module name, scales of the key-value cache by tensor name, all
    other tensors."""

    layers: dict[str, Packed]
    plain: dict[str, torch.Tensor]
    kv: KVFormat | None = None
    cache: dict[str, torch.Tensor] = field(default_factory=dict)


def is_quantized(directory: Path) -> bool:
    """Whether the model directory holds packed weights, by its config.json."""
    return "quantization_config" in hf.check(directory)


def quantization_settings(directory: Path) -> dict[str, Any]:
    """The settings in hf_quant_config.json; refuses what is not ModelOpt's or cannot be simulated here."""
    quantization = hf.check(directory)["quantization_config"]
    algorithm = quantization.get("quant_algo")
    if quantization.get("quant_method") != "modelopt" or algorithm not in (*ALGORITHMS, MIXED):
        raise ValueError(
            f"{directory} is quantized by {quantization.get('quant_method')} {algorithm}; only ModelOpt's"
            f" {', '.join(ALGORITHMS)} and {MIXED} can be simulated"
        )
    settings: dict[str, Any] = json.loads((directory / "hf_quant_config.json").read_text())["quantization"]
    excluded, ignored = settings.get("exclude_modules") or [], quantization.get("ignore") or []
    if sorted(excluded) != sorted(ignored) or settings["quant_algo"] != algorithm:
        raise ValueError(f"{directory}: hf_quant_config.json and config.json disagree; quantize the model again")
    for layer, layer_settings in settings.get("quantized_layers", {}).items():
        if layer_settings.get("quant_algo") not in ALGORITHMS:
            raise ValueError(
                f"{directory}: {layer} is quantized by {layer_settings.get('quant_algo')}, which cannot be simulated"
                " here"
            )
    return settings


def cache_format(directory: Path, settings: dict[str, Any]) -> KVFormat | None:
    """The format of the key-value cache."""
    cache_algorithm = settings.get("kv_cache_quant_algo")
    if cache_algorithm is None:
        return None
    for kv in get_args(KVFormat):
        if cache_algorithm == kv.upper():
            kv_format: KVFormat = kv
            return kv_format
    raise ValueError(
        f"{directory} has a key-value cache of {cache_algorithm}; only {', '.join(get_args(KVFormat))} can be simulated"
    )


def read(directory: Path) -> QuantizedWeights:
    """The checkpoint, with every packed layer checked."""
    settings = quantization_settings(directory)
    tensors = hf.read_tensors(directory)
    names = sorted({name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale")})
    layers = {name: _layer(directory, name, tensors, settings) for name in names}
    if not layers:
        raise ValueError(f"{directory} is marked as quantized but holds no scales; quantize the model again")
    for pattern in settings.get("exclude_modules") or []:
        if excluded_layers := fnmatch.filter(layers, pattern):
            raise ValueError(
                f"{directory} excludes {pattern} from quantization but {excluded_layers[0]} is quantized; quantize the"
                " model again"
            )
    kv = cache_format(directory, settings)
    cache = {
        name: tensors.pop(name)
        for name in list(tensors)
        if name.rpartition(".")[2] in ("k_scale", "v_scale", "k_bias", "v_bias")
    }
    return QuantizedWeights(layers=layers, plain=tensors, kv=kv, cache=cache)


def _layer(directory: Path, name: str, tensors: dict[str, torch.Tensor], settings: dict[str, Any]) -> Packed:
    """One packed layer; its tensors are removed from `tensors`."""
    layer_settings = settings["quantized_layers"].get(name, {}) if settings["quant_algo"] == MIXED else settings
    algorithm = layer_settings.get("quant_algo")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"{directory} holds scales of {name} but not its format; quantize the model again")
    storage = ALGORITHMS[algorithm]
    needed = (
        ["weight", "weight_scale"]
        + ["weight_scale_2"] * storage.second_scale
        + ["input_scale"] * (storage.inputs in INPUT_BOUND)
    )
    missing = [part for part in needed if f"{name}.{part}" not in tensors]
    if missing:
        raise ValueError(f"{directory} lacks the tensor {name}.{missing[0]}; quantize the model again")
    parts = {part: tensors.pop(f"{name}.{part}") for part in needed}
    if storage.smoothed:
        parts["pre_quant_scale"] = tensors.pop(f"{name}.pre_quant_scale", None)
    packed = Packed(algorithm=algorithm, block=_block(algorithm, parts, layer_settings), **parts)
    packed.check(name)
    return packed


def _block(algorithm: str, parts: dict[str, torch.Tensor], layer_settings: dict[str, Any]) -> int | None:
    """Weights per scale. ModelOpt writes no group size for square blocks: the number of scales gives it."""
    if algorithm == "fp8_pb_wo":
        weights, squares = parts["weight"].numel(), parts["weight_scale"].numel()
        side = round((weights / squares) ** 0.5)
        return side if side * side * squares == weights else None
    size = layer_settings.get("group_size")
    return int(size) if size else None


def load(directory: Path, dtype: torch.dtype, *, cache: bool = True) -> PreTrainedModel:
    """The checkpoint as a model that runs without an engine: dequantized weights, and ModelOpt quantizers on the
    layers' inputs and on the key-value cache, unless not `cache`."""
    quantizers.prepare()
    checkpoint = read(directory)
    kv = checkpoint.kv if cache else None
    tensors = checkpoint.plain | {
        f"{name}.weight": packed.dequantize(dtype) for name, packed in checkpoint.layers.items()
    }
    config = hf.check(directory)
    model, experts = separate(hf.build(directory, config, tensors, dtype)), family_of(config).experts
    layers = {held_name(name, experts): packed for name, packed in checkpoint.layers.items()}
    quantizers.simulate_inputs(
        model, {name: (packed.storage.inputs, packed.block) for name, packed in layers.items()}, kv
    )
    for name, packed in layers.items():
        quantizer = model.get_submodule(name).input_quantizer
        if packed.input_scale is not None:
            quantizer.amax = (packed.input_scale * INPUT_BOUND[packed.storage.inputs]).to(model.device)
        if packed.pre_quant_scale is not None:
            quantizer.pre_quant_scale = packed.pre_quant_scale.to(model.device)
    if kv:
        _load_cache(directory, model, checkpoint)
    return model


def _load_cache(directory: Path, model: PreTrainedModel, checkpoint: QuantizedWeights) -> None:
    """Set the scales and biases of the key-value cache's quantizers."""
    for name, attention in model.named_modules():
        for letter, (projection, quantizer) in CACHE.items():
            if not hasattr(attention, quantizer):
                continue
            scale = checkpoint.cache.get(f"{name}.{projection}.{letter}_scale")
            bias = checkpoint.cache.get(f"{name}.{projection}.{letter}_bias")
            if (
                scale is None
                or not (scale.isfinite() & (scale > 0)).all()
                or (bias is None and checkpoint.kv == "nvfp4_affine")
            ):
                raise ValueError(f"{directory} has no valid scale of {name}'s {letter} cache; quantize the model again")
            getattr(attention, quantizer).amax = (scale * LARGEST_FP8).to(model.device)
            if bias is not None:
                getattr(attention, quantizer).register_buffer("_bias_value", bias.to(model.device))
