"""Reads a written checkpoint back and refuses it unless it means exactly what was calibrated."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import torch

from jobs.quantization import checkpoint as quantized


def verify(target: Path, reference: dict[str, torch.Tensor], layers: set[str], unquantized: set[str]) -> None:
    """Read the checkpoint back and refuse it unless it holds exactly `reference`, the calibrated model's parameters.

    `layers` are the quantized linear modules by name; the checkpoint must list `unquantized`, the others, as
    excluded."""
    checkpoint = quantized.read(target)
    packed, plain = checkpoint.layers, checkpoint.plain
    if set(packed) != layers:
        raise RuntimeError(f"{target} quantizes other layers than those calibrated: {min(set(packed) ^ layers)}")
    expected = {name for name in reference if name.removesuffix(".weight") not in layers}
    if set(plain) != expected:
        raise RuntimeError(f"{target} lacks or adds tensor {min(set(plain) ^ expected)}")
    for name, stored in reference.items():
        layer = name.removesuffix(".weight")
        written = packed[layer].dequantize(stored.dtype) if layer in packed else plain[name]
        if not torch.equal(written, stored.cpu()):
            raise RuntimeError(f"{target}: {name} differs from the calibrated model")
    settings = quantized.quantization_settings(target)
    if "quantized_layers" in settings:  # layers that such a list leaves out are not quantized
        listed = set(settings["quantized_layers"])
        if listed != layers:
            raise RuntimeError(f"{target} lists other layers than those calibrated: {min(listed ^ layers)}")
        return
    for layer in sorted(unquantized):
        if not any(fnmatch.fnmatch(layer, pattern) for pattern in settings["exclude_modules"]):
            raise RuntimeError(f"{target} does not list {layer} as unquantized")


def verify_logits(target: Path, tokens: torch.Tensor, logits: torch.Tensor) -> None:
    """Run the written checkpoint as it will be scored; it must give the calibrated model's logits."""
    with torch.inference_mode():
        written = quantized.load(target, logits.dtype)(tokens, use_cache=False).logits
    if not torch.equal(written, logits):
        worst = float((written.float() - logits.float()).abs().max())
        raise RuntimeError(f"{target} gives logits that differ by up to {worst:g} from the calibrated model's")
