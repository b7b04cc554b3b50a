"""The effect of quantization on each layer: how many tokens its quantizers saw in calibration, and how far its weights
and outputs moved, as a signal-to-noise ratio in dB."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from jobs.huggingface.experts import mixture_of
from jobs.quantization import export

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SEQUENCES = 8
"""Calibration sequences on which outputs are compared; they hold far more tokens than a layer's outputs need."""

TokenCounts = dict[str, dict[str, int]]


@contextlib.contextmanager
def counting(model: PreTrainedModel) -> Iterator[TokenCounts]:
    """Count the sequences and tokens that pass each linear layer and each quantizer of the key-value cache inside the
    block."""
    counts: TokenCounts = {}
    handles = []
    # awq_clip turns the weight quantizers off while it looks at activations
    modules = {name: module for name, module in model.named_modules() if hasattr(module, "weight_quantizer")}
    modules |= export.cache_quantizers(model)
    for name, module in modules.items():
        counts[name] = {"samples": 0, "tokens": 0}
        handles.append(module.register_forward_pre_hook(_counter(counts[name], heads=name.endswith("_bmm_quantizer"))))
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _counter(counts: dict[str, int], *, heads: bool) -> Any:
    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        shape = inputs[
            0
        ].shape  # [sequences, tokens, width], or with heads before the tokens; an expert's [tokens, width]
        counts["samples"] += shape[0] if len(shape) > 2 else 0
        counts["tokens"] += shape[0] * shape[2] if heads else math.prod(shape[:-1])

    return count


def check_counts(counts: TokenCounts, quantized: list[str]) -> list[str]:
    """Refuse quantizers that calibration never reached: their scales would rest on nothing, or on the weights alone.

    Engines give all experts of a layer one scale for their inputs, so an expert that no token took has that of the
    others. Returns the layers of such experts, which are told."""
    unseen = [name for name in quantized if not counts.get(name, {}).get("tokens")]
    reached = {mixture_of(name) for name in quantized if name not in unseen} - {None}
    alone = [name for name in unseen if mixture_of(name) in reached]
    if alone:
        print(
            f"{len(alone)} of {len(quantized)} quantized layers belong to experts that no token took in calibration,"
            f" for example {alone[0]}: their inputs have the range of the layer's other experts; raise"
            " calibration_samples to measure them"
        )
    unseen = [name for name in unseen if name not in alone]
    if unseen:
        raise ValueError(
            f"{len(unseen)} of {len(quantized)} quantizers saw no token in calibration, for example {unseen[0]}; raise"
            " calibration_samples or use text that reaches them"
        )
    return alone


def measure(
    model: PreTrainedModel, layers: dict[str, Any], before: dict[str, torch.Tensor], tokens: torch.Tensor
) -> dict[str, dict[str, Any]]:
    """Format and signal-to-noise ratio of each layer in dB; None where nothing differs.

    `before` holds the weights [out, in] before rounding, after the calibrator's smoothing and clipping. Outputs compare
    the layer with its unrounded weights on the same inputs, those of the quantized model."""
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
        layer_input = inputs[0]
        smoothing = layer.input_quantizer.pre_quant_scale
        if smoothing is not None:
            layer_input = layer_input * smoothing
        bias = None if layer.bias is None else layer.bias.float()
        expected = torch.nn.functional.linear(layer_input.float(), before.to(layer_input.device).float(), bias)
        powers[0] += float(expected.square().sum())
        powers[1] += float((output.float() - expected).square().sum())

    return compare


def decibels(signal: float, noise: float) -> float | None:
    """Signal-to-noise ratio of two powers in dB; None without noise or without signal."""
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None
