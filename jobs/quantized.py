"""The unified quantized checkpoint that ModelOpt exports: what it must hold, what its packed weights mean, and how it is run here.

It reads, checks and simulates such checkpoints; making one is the business of `quantize`.
"""

from __future__ import annotations

import copy
import fnmatch
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from conf.quantize import QuantFormat
from jobs import hf, nvfp4_cpu

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALGORITHMS: dict[QuantFormat, str] = {"fp8": "FP8", "nvfp4": "NVFP4"}
LARGEST_FP8 = 448.0
INPUT_BOUND: dict[QuantFormat, float] = {"fp8": LARGEST_FP8, "nvfp4": nvfp4_cpu.LARGEST_FP4 * nvfp4_cpu.LARGEST_SCALE}
"""The largest activation that input_scale stands for, in units of input_scale."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """One quantized linear layer as stored: fp8 weight [out, in], or nvfp4 weight bytes [out, in / 2] with a scale per 16 inputs."""

    format: QuantFormat
    weight: torch.Tensor
    weight_scale: torch.Tensor
    input_scale: torch.Tensor
    weight_scale_2: torch.Tensor | None = None

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight [out, in] that engines multiply with, computed in fp32 and rounded once to `dtype`."""
        if self.format == "fp8":
            return (self.weight.float() * self.weight_scale).to(dtype)
        from modelopt.torch.quantization.qtensor import NVFP4QTensor

        rows, half = self.weight.shape
        packed = NVFP4QTensor((rows, 2 * half), torch.float32, self.weight)
        blocks = {-1: nvfp4_cpu.BLOCK}
        return packed.dequantize(scale=self.weight_scale, double_scale=self.weight_scale_2, block_sizes=blocks).to(dtype)

    def check(self, name: str) -> None:
        """Refuse missing or odd parts, scales that are not finite and positive, and weights that are not numbers."""
        rows, columns = self.weight.shape
        parts = {"weight_scale": self.weight_scale, "input_scale": self.input_scale}
        scalars = {"input_scale"}
        if self.format == "nvfp4":
            assert self.weight_scale_2 is not None
            parts["weight_scale_2"] = self.weight_scale_2
            scalars.add("weight_scale_2")
            _expect(name, "weight", self.weight, torch.uint8, None)
            _expect(name, "weight_scale", self.weight_scale, torch.float8_e4m3fn, (rows, 2 * columns // nvfp4_cpu.BLOCK))
        else:
            scalars.add("weight_scale")
            _expect(name, "weight", self.weight, torch.float8_e4m3fn, None)
            if not self.weight.float().isfinite().all():
                raise ValueError(f"{name}.weight holds NaN bytes; quantize the model again")
        for part, tensor in parts.items():
            if part in scalars:
                _expect(name, part, tensor, torch.float32, ())
            value = tensor.float()
            if not (value.isfinite() & (value > 0)).all():
                raise ValueError(f"{name}.{part} is not finite and positive everywhere; quantize the model again")


def _expect(layer: str, part: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...] | None) -> None:
    if tensor.dtype != dtype or (shape is not None and tuple(tensor.shape) != shape):
        wanted = f"{dtype}" if shape is None else f"{dtype} of shape {shape}"
        raise ValueError(
            f"{layer}.{part} is {tensor.dtype} of shape {tuple(tensor.shape)} where {wanted} is needed; quantize the model again"
        )


def is_quantized(directory: Path) -> bool:
    """Whether the model directory holds packed weights, by its config.json."""
    return "quantization_config" in hf.check(directory)


def format_of(directory: Path) -> QuantFormat:
    """The format of a quantized checkpoint; others than ours are refused."""
    settings = hf.check(directory)["quantization_config"]
    for name, algorithm in ALGORITHMS.items():
        if settings.get("quant_method") == "modelopt" and settings.get("quant_algo") == algorithm:
            return name
    said = f"{settings.get('quant_method')} {settings.get('quant_algo')}"
    raise ValueError(f"{directory} is quantized by {said}; only ModelOpt's {' and '.join(ALGORITHMS.values())} can be simulated")


def read(directory: Path) -> tuple[dict[str, Packed], dict[str, torch.Tensor]]:
    """The quantized layers by module name, each checked, and all other tensors by name."""
    kind = format_of(directory)
    tensors = hf.read_tensors(directory)
    parts = ("weight", "weight_scale", "input_scale") + (("weight_scale_2",) if kind == "nvfp4" else ())
    layers = {}
    for layer in sorted({name.rpartition(".")[0] for name in tensors if name.endswith("_scale")}):
        missing = [part for part in parts if f"{layer}.{part}" not in tensors]
        if missing:
            raise ValueError(f"{directory} lacks the tensor {layer}.{missing[0]}; quantize the model again")
        layers[layer] = Packed(format=kind, **{part: tensors.pop(f"{layer}.{part}") for part in parts})
        layers[layer].check(layer)
    if not layers:
        raise ValueError(f"{directory} says it is quantized but holds no scales; quantize the model again")
    _check_exclusions(directory, list(layers))
    return layers, tensors


def _check_exclusions(directory: Path, layers: list[str]) -> None:
    """Refuse a checkpoint whose two lists of unquantized modules differ or name a quantized one: engines would misread it."""
    settings = json.loads((directory / "hf_quant_config.json").read_text())["quantization"]
    excluded = settings.get("exclude_modules") or []
    ignored = hf.check(directory)["quantization_config"].get("ignore") or []
    if sorted(excluded) != sorted(ignored) or settings["quant_algo"] != ALGORITHMS[format_of(directory)]:
        raise ValueError(f"{directory}: hf_quant_config.json and config.json disagree; quantize the model again")
    for pattern in excluded:
        named = fnmatch.filter(layers, pattern)
        if named:
            raise ValueError(f"{directory} excludes {pattern} from quantization but {named[0]} is quantized; quantize the model again")


def load(directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The checkpoint as a model that runs without an engine: dequantized weights, and ModelOpt quantizers on the layers' inputs."""
    prepare()
    layers, tensors = read(directory)
    tensors |= {f"{name}.weight": packed.dequantize(dtype) for name, packed in layers.items()}
    model = hf.build(directory, hf.check(directory), tensors, dtype)
    simulate_inputs(model, {name: packed.input_scale for name, packed in layers.items()}, format_of(directory))
    return model


def simulate_inputs(model: PreTrainedModel, input_scales: dict[str, torch.Tensor], kind: QuantFormat) -> None:
    """Round the inputs of the named linear layers as an engine would; weights stay as they are."""
    import modelopt.torch.quantization as mtq

    settings = quantizers(kind)
    settings["quant_cfg"]["*weight_quantizer"] = {"enable": False}
    settings["algorithm"] = None
    mtq.quantize(model, settings)
    for name, module in model.named_modules():
        if not hasattr(module, "input_quantizer"):
            continue
        if name in input_scales:
            module.input_quantizer.amax = (input_scales[name] * INPUT_BOUND[kind]).to(model.device)
        else:
            module.input_quantizer.disable()


def quantizers(kind: QuantFormat) -> dict[str, Any]:
    """ModelOpt's own settings of a format."""
    import modelopt.torch.quantization as mtq

    return copy.deepcopy({"fp8": mtq.FP8_DEFAULT_CFG, "nvfp4": mtq.NVFP4_DEFAULT_CFG}[kind])


def prepare() -> None:
    """Make ModelOpt's quantizers work on this machine."""
    import modelopt.torch.quantization  # noqa: F401 - registers the quantized layers

    if not torch.cuda.is_available():
        nvfp4_cpu.install()
