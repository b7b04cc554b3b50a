"""From a calibrated model to a checkpoint with exactly the same meaning: shared scales, weights folded to their packed
values, and export by ModelOpt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from conf import hf_config, hf_model
from conf.families import family_of
from jobs.huggingface.experts import stored_name
from jobs.quantization.packed_layer import ALGORITHMS, INPUT_BOUND, INT4, LARGEST_FP8, Packed, pack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("w1", "w3"))
"""Layers that engines run as one matrix, with one scale."""
UNFUSED = ("o_proj", "down_proj")
CACHE_QUANTIZERS = ("k_bmm_quantizer", "v_bmm_quantizer")
MAX_FOLDS = 8
"""Roundings after which a weight must be stable."""
NAMES = {
    "fp8": "FP8",
    "fp8_pb_wo": "fp8_pb_wo",
    "fp8_pc_pt": "FP8_PER_CHANNEL_PER_TOKEN",
    "int8_sq": "W8A8_SQ_PER_CHANNEL",
    "int4_awq": "W4A16_AWQ",
    "w4a8_awq": "W4A8_AWQ",
    "nvfp4": "NVFP4",
    "nvfp4_awq": "NVFP4_AWQ",
    "w4a8_nvfp4_fp8": "W4A8_NVFP4_FP8",
}
"""The checkpoint's name for each format that ModelOpt's get_quantization_format returns."""


def quantized_layers(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """Linear layers with an enabled weight quantizer, by module name."""
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "weight_quantizer") and hasattr(module, "weight") and module.weight_quantizer.is_enabled
    }


def cache_quantizers(model: PreTrainedModel) -> dict[str, Any]:
    """Enabled quantizers of the key-value cache, by module name."""
    return {
        f"{name}.{kind}": getattr(module, kind)
        for name, module in model.named_modules()
        for kind in CACHE_QUANTIZERS
        if hasattr(module, kind) and getattr(module, kind).is_enabled
    }


def check_calibrated(model: PreTrainedModel, layers: dict[str, Any]) -> None:
    """Refuse quantizers that saw no data, or data that no scale fits; those that saw only zeros get a scale."""
    if not layers:
        raise ValueError(
            "the model has no linear layer that can be quantized; choose a decoder with linear projections"
        )
    parts = [
        (f"the weights of {name}", quantizer)
        for name, layer in layers.items()
        for quantizer in _weight_quantizers(layer.weight_quantizer)
    ]
    parts += [
        (f"the inputs of {name}", layer.input_quantizer)
        for name, layer in layers.items()
        if layer.input_quantizer.is_enabled and not layer.input_quantizer._dynamic
    ]
    parts += [(name, quantizer) for name, quantizer in cache_quantizers(model).items()]
    zeros = []
    for description, quantizer in parts:
        amax = getattr(quantizer, "_amax", None)
        if amax is None:
            raise ValueError(f"calibration never reached {description}; raise calibration_samples")
        if not (amax.isfinite().all() and amax.min() >= 0):
            raise ValueError(
                f"the largest magnitude of {description} is {float(amax.max())}, which no scale fits; check the model"
            )
        quantizer._amax = amax.float()  # scales are exported in fp32
        if amax.max() == 0:  # any scale keeps zeros
            quantizer._amax = torch.ones_like(quantizer._amax)
            zeros.append(description)
    if zeros:
        print(f"{len(zeros)} of {len(parts)} quantizers saw only zeros, for example {zeros[0]}; their scale is 1")


def _weight_quantizers(quantizer: Any) -> list[Any]:
    """The quantizers a weight passes: one, or two for W4A8."""
    from modelopt.torch.quantization.nn import SequentialQuantizer

    return list(quantizer) if isinstance(quantizer, SequentialQuantizer) else [quantizer]


def share_scales(model: PreTrainedModel) -> None:
    """Give layers that engines fuse one scale, as engines would at load time with different rounding.

    Smoothed layers use ModelOpt's own procedure: one smoothing scale per group, moved into the preceding norm or
    layer."""
    from modelopt.torch.export.quant_utils import preprocess_linear_fusion
    from modelopt.torch.export.unified_export_hf import requantize_resmooth_fused_llm_layers

    if any(getattr(module, "_pre_quant_scale", None) is not None for module in model.modules()):
        with torch.no_grad():
            requantize_resmooth_fused_llm_layers(model)
        return
    for parent in list(model.modules()):
        for names in FUSED:
            group = [module for name in names if (module := getattr(parent, name, None)) is not None]
            if len(group) == len(names):
                preprocess_linear_fusion(group)


def complete_smoothing(layers: dict[str, Any]) -> None:
    """Give INT4's o_proj and down_proj a smoothing scale of ones where the calibrator smooths nothing (awq_clip):
    TensorRT-LLM reads that tensor without asking whether it is there."""
    for name, layer in layers.items():
        needs = algorithm_of(layer) in INT4 and name.endswith(UNFUSED)
        if needs and layer.input_quantizer.pre_quant_scale is None:
            layer.input_quantizer.pre_quant_scale = layer.weight.new_ones(layer.weight.shape[1])


def algorithm_of(layer: Any) -> str:
    """The checkpoint's name for the layer's format."""
    from modelopt.torch.export.quant_utils import get_quantization_format

    return NAMES[str(get_quantization_format(layer))]


def fold_weights(model: PreTrainedModel, layers: dict[str, Any]) -> float:
    """Replace each weight by the value of its packed form, so that packing it is exact; returns the largest change of a
    weight.

    Otherwise the export divides in bf16 and rounds twice, and packs a few weights differently from what calibration
    saw."""
    largest = 0.0
    for name, layer in layers.items():
        algorithm = algorithm_of(layer)
        bound = INPUT_BOUND.get(ALGORITHMS[algorithm].inputs)
        if bound:
            _round_amax(layer.input_quantizer, bound)
        original = layer.weight.data
        for _ in range(MAX_FOLDS):
            before = layer.weight.data
            layer.weight.data = _packed(layer, algorithm).dequantize(before.dtype)
            if torch.equal(before, layer.weight.data):
                break
        else:
            raise RuntimeError(f"rounding the weights of {name} to {algorithm} does not settle")
        largest = max(largest, float((layer.weight.data.float() - original.float()).abs().max()))
    for quantizer in cache_quantizers(model).values():
        _round_amax(quantizer, LARGEST_FP8)  # ModelOpt stores NVFP4's cache scale as amax / 448 too
    return largest


def _round_amax(quantizer: Any, bound: float) -> None:
    """Round the largest magnitude to one that the exported scale reproduces."""
    for _ in range(MAX_FOLDS):
        quantizer._amax = quantizer._amax / bound * bound


def _packed(layer: Any, algorithm: str) -> Packed:
    """The layer's weight as the export packs it, but divided in fp32."""
    from modelopt.torch.export.quant_utils import (
        get_weight_block_size,
        get_weight_scaling_factor,
        get_weight_scaling_factor_2,
    )

    scale, second = get_weight_scaling_factor(layer), get_weight_scaling_factor_2(layer)
    if second is not None:
        second = second.reshape(())
    return pack(algorithm, layer.weight.data, scale, second, get_weight_block_size(layer) or None)


def without_weight_quantizers(model: PreTrainedModel, layers: dict[str, Any], tokens: torch.Tensor) -> torch.Tensor:
    """Logits of the calibrated model, whose weights are already folded."""
    with weights_as_they_are(layers), torch.inference_mode():
        logits: torch.Tensor = model(tokens, use_cache=False).logits
    return logits


@contextlib.contextmanager
def weights_as_they_are(layers: dict[str, Any]) -> Iterator[None]:
    """Weight quantizers are off inside the block."""
    for layer in layers.values():
        layer.weight_quantizer.disable()
    try:
        yield
    finally:
        for layer in layers.values():
            layer.weight_quantizer.enable()


def export(model: PreTrainedModel, source: Path, target: Path) -> list[str]:
    """Write the checkpoint with the source's own config and tokenizer; returns the names of the modules left
    unquantized."""
    from modelopt.torch.export import export_hf_checkpoint

    from jobs.huggingface.tokenizer import copy_files, copy_generation

    with _scales_shared_already(), _grids_of_scales():
        export_hf_checkpoint(model, export_dir=target)
    _leave_out_embeddings(target, model)
    _name_experts(target, model)
    copy_files(source, target)
    copy_generation(source, target)  # ModelOpt writes one of its own, with ids that transformers invents
    written = json.loads((target / "config.json").read_text())
    config = json.loads((source / "config.json").read_text())
    config.pop("dtype", None)
    # transformers rewrites the config (rope_theta moves, defaults appear); engines of other versions expect the
    # source's
    config = hf_config.for_engines(config)
    config |= {"torch_dtype": "bfloat16", "quantization_config": written["quantization_config"]}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return list(written["quantization_config"]["ignore"])


LISTS = (("config.json", "quantization_config", "ignore"), ("hf_quant_config.json", "quantization", "exclude_modules"))


def _leave_out_embeddings(target: Path, model: PreTrainedModel) -> None:
    """Since 0.44 ModelOpt lists embeddings as unquantized too; engines look up linear layers alone."""
    embeddings = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
    for file, place, key in LISTS:
        written = json.loads((target / file).read_text())
        if listed := written[place].get(key):
            written[place][key] = [name for name in listed if name not in embeddings]
            (target / file).write_text(json.dumps(written, indent=4))


def _name_experts(target: Path, model: PreTrainedModel) -> None:
    """Where there are experts: give what was written the names of the family's files, and list the routers, which
    engines count among the linear layers, as unquantized."""
    experts = family_of(model.config.to_dict()).experts
    if experts is None:
        return
    for path in target.glob("*.safetensors"):
        tensors = {stored_name(name, experts): tensor for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    routers = [f"model.layers.{number}.{experts.module}.gate" for number in range(len(model.model.layers))]
    for file, place, key in LISTS:
        written = json.loads((target / file).read_text())
        settings = written[place]
        settings[key] = [stored_name(name, experts) for name in settings.get(key) or []] + routers
        if "quantized_layers" in settings:
            settings["quantized_layers"] = {
                stored_name(name, experts): of for name, of in settings["quantized_layers"].items()
            }
        (target / file).write_text(json.dumps(written, indent=4))
    index = target / hf_model.INDEX
    if index.is_file():
        listed = json.loads(index.read_text())
        listed["weight_map"] = {stored_name(name, experts): file for name, file in listed["weight_map"].items()}
        index.write_text(json.dumps(listed, indent=2) + "\n")


@contextlib.contextmanager
def _scales_shared_already() -> Iterator[None]:
    """ModelOpt's export shares scales and smooths on its own; a second time it would look for smoothing scales it has
    moved away (AttributeError in fuse_prequant_layernorm), and change folded weights. Experts' gates and ups it would
    give one scale of each row and block too."""
    from modelopt.torch.export import unified_export_hf

    names = ("requantize_resmooth_fused_llm_layers", "sync_moe_gate_up_amax")
    originals = {name: getattr(unified_export_hf, name) for name in names}
    for name in names:
        setattr(unified_export_hf, name, lambda model: 0)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(unified_export_hf, name, original)


@contextlib.contextmanager
def _grids_of_scales() -> Iterator[None]:
    """Scales of square blocks have four axes, also where there is one block: ModelOpt writes that as a number, at which
    vLLM fails with "narrow() cannot be applied to a 0-dim tensor"."""
    from modelopt.torch.export import unified_export_hf

    original = unified_export_hf.get_weight_scaling_factor

    def whole(module: Any, *names: str) -> torch.Tensor:
        scale: torch.Tensor = original(module, *names)
        return scale.reshape(1, 1, 1, 1) if scale.numel() == 1 and algorithm_of(module) == "fp8_pb_wo" else scale

    unified_export_hf.get_weight_scaling_factor = whole
    try:
        yield
    finally:
        unified_export_hf.get_weight_scaling_factor = original
