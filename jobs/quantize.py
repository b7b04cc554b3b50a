"""Quantizes a model to FP8 or NVFP4 with ModelOpt and exports the unified checkpoint that vLLM and TensorRT-LLM read.

What is written is read back and must equal, bit for bit, what the calibrated model computes with; otherwise the stage fails.
The checkpoint is in bf16 where it is not quantized, whatever the model came in: engines need 16 bits beside packed weights.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.quantize import QuantFormat, QuantizeConfig
from conf.spec import Spec
from jobs.entry import Metrics, main

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers that engines run as one matrix, with one scale."""
GENERATION = "generation_config.json"
MOST_FOLDS = 8
"""Roundings after which a weight must have settled."""


def run(spec: Spec) -> None:
    """Inputs: model, data. Writes model/ (the checkpoint) and quantize.json."""
    config = QuantizeConfig.model_validate(spec.config)
    source, data, output = Path(spec.inputs["model"]) / "model", Path(spec.inputs["data"]), Path(spec.output)
    check(source, data, config)

    from jobs import hf
    from jobs.windows import Windows

    windows = Windows(data / "train", config.seq_length)
    samples = windows.take(range(min(config.calibration_samples, len(windows))))
    shutil.rmtree(output / "model", ignore_errors=True)  # what a killed attempt left
    (output / "quantize.json").unlink(missing_ok=True)
    summary = _quantize(source, output / "model", samples, config, Metrics(output))
    summary |= {"bytes_before": hf.weight_bytes(source), "bytes_after": hf.weight_bytes(output / "model")}
    (output / "quantize.json").write_text(json.dumps(summary, indent=2) + "\n")


def check(source: Path, data: Path, config: QuantizeConfig) -> None:
    """Refuse before anything heavy is loaded: another tokenizer, too long sequences, widths the format cannot pack."""
    from jobs import hf
    from jobs.nvfp4_cpu import BLOCK

    settings = hf.check(source)
    if "quantization_config" in settings:
        raise ValueError(f"{source} is already quantized; quantize the model it was made from")
    hf.check_tokens(source, data)
    hf.check_length(settings, config.seq_length)
    if config.format == "nvfp4":
        heads = settings["num_attention_heads"]
        head_dim = settings.get("head_dim") or settings["hidden_size"] // heads
        widths = {"hidden_size": settings["hidden_size"], "intermediate_size": settings["intermediate_size"], "heads": heads * head_dim}
        for name, width in widths.items():
            if width % BLOCK:
                raise ValueError(
                    f"the model's {name} is {width} wide, not a multiple of nvfp4's block of {BLOCK}; "
                    f"prune to {width - width % BLOCK or BLOCK}, or use fp8"
                )


def _quantize(source: Path, target: Path, samples: NDArray[np.int64], config: QuantizeConfig, metrics: Metrics) -> dict[str, Any]:
    """Calibrate, write, read back and compare; the record for quantize.json."""
    import torch

    from jobs import hf, quantized

    quantized.prepare()
    model = hf.load_model(source, torch.bfloat16)
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"{source}: {name} holds values that are not numbers; the model is damaged: make it again")
    _calibrate(model, samples, config, metrics)
    layers = _quantized_layers(model)
    _check_calibrated(layers)
    _share_scales(model)
    error = _fold(layers, config.format)
    probe = torch.from_numpy(samples[:1, :-1]).to(model.device)
    logits = _without_weight_quantizers(model, layers, probe)
    reference = {name: tensor.detach() for name, tensor in model.named_parameters()}
    unquantized = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)} - set(layers)
    excluded = _export(model, source, target)
    verify(target, reference, set(layers), unquantized)
    _verify_logits(target, probe, logits)
    return {
        "format": config.format,
        "samples": len(samples),
        "tokens": len(samples) * config.seq_length,
        "quantized_layers": len(layers),
        "excluded_modules": excluded,
        "max_abs_error": error,
        "verified": {"tensors": len(reference), "weights_equal": True, "logits_equal": True},
    }


def _calibrate(model: PreTrainedModel, samples: NDArray[np.int64], config: QuantizeConfig, metrics: Metrics) -> None:
    """Insert ModelOpt's quantizers and let them see `samples` [n, seq_length + 1]."""
    import modelopt.torch.quantization as mtq
    import torch

    from jobs import quantized

    steps = math.ceil(len(samples) / config.batch)

    def forward(model: PreTrainedModel) -> None:
        with torch.inference_mode():
            for step in range(steps):
                batch = samples[step * config.batch : (step + 1) * config.batch, :-1]
                model.model(torch.from_numpy(batch).to(model.device), use_cache=False)
                metrics.log(step + 1, steps, samples=min((step + 1) * config.batch, len(samples)))

    metrics.rewind(0)
    mtq.quantize(model, quantized.quantizers(config.format), forward)


def _quantized_layers(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """Linear layers whose weight quantizer is on, by module name."""
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "weight_quantizer") and hasattr(module, "weight") and module.weight_quantizer.is_enabled
    }


def _check_calibrated(layers: dict[str, Any]) -> None:
    """Refuse quantizers that saw no data, or data that no scale fits."""
    if not layers:
        raise ValueError("the model has no linear layer that can be quantized; choose a decoder with linear projections")
    for name, layer in layers.items():
        for part, quantizer in (("weights", layer.weight_quantizer), ("inputs", layer.input_quantizer)):
            amax = getattr(quantizer, "_amax", None)
            if amax is None:
                raise ValueError(f"calibration never reached the {part} of {name}; raise calibration_samples")
            if not (amax.isfinite() & (amax > 0)).all():
                raise ValueError(
                    f"the {part} of {name} have the largest magnitude {float(amax.max())}, which no scale fits; check the model"
                )
            quantizer._amax = amax.float()  # scales are exported in fp32


def _share_scales(model: PreTrainedModel) -> None:
    """Give layers that engines fuse one scale, as those engines would do at load time with another rounding."""
    from modelopt.torch.export.quant_utils import preprocess_linear_fusion

    for parent in list(model.modules()):
        for names in FUSED:
            group = [module for name in names if (module := getattr(parent, name, None)) is not None]
            if len(group) == len(names):
                preprocess_linear_fusion(group)


def _fold(layers: dict[str, Any], kind: QuantFormat) -> float:
    """Replace each weight by the value its packed form stands for, so that packing it is exact; the largest change of a weight.

    Without this the export divides in bf16 and rounds twice, and packs a few weights otherwise than calibration saw them.
    """
    import torch

    from jobs import quantized

    largest = 0.0
    for name, layer in layers.items():
        scale = layer.input_quantizer._amax
        for _ in range(MOST_FOLDS):  # until the exported scale gives back the same bound
            scale = scale / quantized.INPUT_BOUND[kind] * quantized.INPUT_BOUND[kind]
        layer.input_quantizer._amax = scale
        original = layer.weight.data
        folded = original
        for _ in range(MOST_FOLDS):
            before, folded = folded, _round_trip(folded, layer.weight_quantizer._amax, kind)
            if torch.equal(before, folded):
                break
        else:
            raise RuntimeError(f"rounding the weights of {name} to {kind} does not settle")
        largest = max(largest, float((folded.float() - original.float()).abs().max()))
        layer.weight.data = folded
    return largest


def _round_trip(weight: torch.Tensor, amax: torch.Tensor, kind: QuantFormat) -> torch.Tensor:
    """`weight` packed and unpacked as stored, in its own dtype."""
    import torch
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    from jobs import quantized
    from jobs.nvfp4_cpu import BLOCK

    amax = amax.reshape(())
    if kind == "fp8":
        scale = amax / quantized.LARGEST_FP8
        codes = (weight.float() / scale).clamp(-quantized.LARGEST_FP8, quantized.LARGEST_FP8).to(torch.float8_e4m3fn)
        return (codes.float() * scale).to(weight.dtype)
    scale = amax / quantized.INPUT_BOUND[kind]
    packed, block_scales, _ = NVFP4QTensor.quantize(weight, BLOCK, weights_scaling_factor_2=scale)
    unpacked = packed.dequantize(torch.float32, scale=block_scales, double_scale=scale, block_sizes={-1: BLOCK})
    return unpacked.to(weight.dtype)


def _without_weight_quantizers(model: PreTrainedModel, layers: dict[str, Any], tokens: torch.Tensor) -> torch.Tensor:
    """Logits of the calibrated model, whose weights are already folded."""
    import torch

    for layer in layers.values():
        layer.weight_quantizer.disable()
    with torch.inference_mode():
        logits = model(tokens, use_cache=False).logits
    for layer in layers.values():
        layer.weight_quantizer.enable()
    return logits


def _export(model: PreTrainedModel, source: Path, target: Path) -> list[str]:
    """Write the checkpoint, with the source's own config and tokenizer; the names of the modules left out of quantization."""
    from modelopt.torch.export import export_hf_checkpoint

    from jobs.tokenizer import copy_files

    export_hf_checkpoint(model, export_dir=target)
    copy_files(source, target)
    if (source / GENERATION).is_file():
        shutil.copyfile(source / GENERATION, target / GENERATION)
    written = json.loads((target / "config.json").read_text())
    config = json.loads((source / "config.json").read_text())
    config.pop("dtype", None)
    # transformers rewrites what it read (rope_theta moves, defaults appear); engines of other versions read the source's words
    config |= {"torch_dtype": "bfloat16", "quantization_config": written["quantization_config"]}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return list(written["quantization_config"]["ignore"])


def verify(target: Path, reference: dict[str, torch.Tensor], layers: set[str], unquantized: set[str]) -> None:
    """Read the checkpoint back and refuse it unless it holds exactly `reference`, the calibrated model's parameters.

    `layers` are the quantized linear modules by name, `unquantized` the others, which the checkpoint must say it excludes.
    """
    import fnmatch

    import torch

    from jobs import quantized

    packed, plain = quantized.read(target)
    if set(packed) != layers:
        raise RuntimeError(f"{target} quantizes other layers than were calibrated: {min(set(packed) ^ layers)}")
    expected = {name for name in reference if name.removesuffix(".weight") not in layers}
    if set(plain) != expected:
        raise RuntimeError(f"{target} lacks or adds the tensor {min(set(plain) ^ expected)}")
    for name, stored in reference.items():
        layer = name.removesuffix(".weight")
        written = packed[layer].dequantize(stored.dtype) if layer in packed else plain[name]
        if not torch.equal(written, stored.cpu()):
            raise RuntimeError(f"{target}: {name} is not what the calibrated model uses")
    excluded = json.loads((target / "hf_quant_config.json").read_text())["quantization"]["exclude_modules"]
    for layer in sorted(unquantized):
        if not any(fnmatch.fnmatch(layer, pattern) for pattern in excluded):
            raise RuntimeError(f"{target} does not say that {layer} is left unquantized")


def _verify_logits(target: Path, tokens: torch.Tensor, logits: torch.Tensor) -> None:
    """Run the written checkpoint as it will be scored; it must give the calibrated model's logits."""
    import torch

    from jobs import quantized

    with torch.inference_mode():
        written = quantized.load(target, logits.dtype)(tokens, use_cache=False).logits
    if not torch.equal(written, logits):
        worst = float((written.float() - logits.float()).abs().max())
        raise RuntimeError(f"{target} gives logits that differ by up to {worst:g} from the calibrated model's")


if __name__ == "__main__":
    main(run)
