"""What quantization does to each layer: how much its quantizers saw while they were calibrated, and how far its weights
and outputs are from those of before, as signal to noise in dB."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from jobs.quantization import export

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SEQUENCES = 8
"""Calibration sequences that outputs are compared on; their tokens are many more than a layer's outputs need."""

Seen = dict[str, dict[str, int]]


@contextlib.contextmanager
def counting(model: PreTrainedModel) -> Iterator[Seen]:
    """Sequences and tokens that pass each linear layer and each quantizer of the key-value cache while the context is
    open."""
    seen: Seen = {}
    handles = []
    # awq_clip turns the weight quantizers off while it looks at activations
    watched = {name: module for name, module in model.named_modules() if hasattr(module, "weight_quantizer")}
    watched |= export.cache_quantizers(model)
    for name, module in watched.items():
        seen[name] = {"samples": 0, "tokens": 0}
        handles.append(module.register_forward_pre_hook(_counter(seen[name], heads=name.endswith("_bmm_quantizer"))))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _counter(counts: dict[str, int], *, heads: bool) -> Any:
    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        shape = inputs[0].shape  # [sequences, tokens, width], or with heads before the tokens
        counts["samples"] += shape[0]
        counts["tokens"] += shape[0] * shape[2] if heads else math.prod(shape[:-1])

    return count


def check_seen(seen: Seen, quantized: list[str]) -> None:
    """Refuse layers that calibration never reached: their scales would be of nothing, or of the weights alone."""
    unseen = [name for name in quantized if not seen.get(name, {}).get("tokens")]
    if unseen:
        raise ValueError(
            f"{len(unseen)} of {len(quantized)} quantizers saw no token while they were calibrated, {unseen[0]} among"
            " them; raise calibration_samples, or take text that reaches them"
        )


def measure(
    model: PreTrainedModel, layers: dict[str, Any], before: dict[str, torch.Tensor], tokens: torch.Tensor
) -> dict[str, dict[str, Any]]:
    """Format and signal to noise of each layer, dB; None where nothing differs.

    `before` holds the weights [out, in] before they were rounded, after smoothing and clipping of the calibrator.
    Outputs are those of the layer on the quantized model's own inputs, against the same inputs and weights unrounded.
    """
    powers = {name: [0.0, 0.0] for name in layers}
    handles = [layer.register_forward_hook(_comparer(before[name], powers[name])) for name, layer in layers.items()]
    try:
        with export.weights_as_they_are(layers), torch.inference_mode():
            for start in range(min(len(tokens), SEQUENCES)):
                model.model(tokens[start : start + 1].to(model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    measured = {}
    for name, layer in layers.items():
        original = before[name].to(layer.weight.device).float()
        weights = decibels(float(original.square().sum()), float((layer.weight.data.float() - original).square().sum()))
        measured[name] = {
            "format": export.algorithm_of(layer),
            "weights_db": weights,
            "outputs_db": decibels(*powers[name]),
        }
    return measured


def _comparer(before: torch.Tensor, powers: list[float]) -> Any:
    def compare(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        arriving = inputs[0]
        smoothing = layer.input_quantizer.pre_quant_scale
        if smoothing is not None:
            arriving = arriving * smoothing
        bias = None if layer.bias is None else layer.bias.float()
        wanted = torch.nn.functional.linear(arriving.float(), before.to(arriving.device).float(), bias)
        powers[0] += float(wanted.square().sum())
        powers[1] += float((output.float() - wanted).square().sum())

    return compare


def decibels(signal: float, noise: float) -> float | None:
    """Signal to noise of two powers, dB; None without noise or without signal."""
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None
