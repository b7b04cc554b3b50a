"""Activation recomputation: a layer stores only its input and is computed again in the backward pass.

Wraps each layer from outside, not inside Megatron's block, so that the layer output seen by distillation's hooks still
carries its gradient."""

from __future__ import annotations

import functools
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from torch.utils.checkpoint import checkpoint

from jobs.megatron.experts import forget_routing

HELD = "mlp_norm_manager"


def recompute_layers(model: GPTModel) -> None:
    """Let the layers of this pipeline stage store only their inputs while they train; a teacher inside `model` is
    unaffected."""
    for layer in model.decoder.layers:
        mixed = model.config.num_moe_experts is not None
        forward = functools.partial(_let_go, layer, layer.forward)
        forward = functools.partial(forget_routing, layer, forward) if mixed else forward
        layer.forward = functools.partial(_checkpointed, layer, forward)


def _let_go(layer: torch.nn.Module, forward: Any, *inputs: Any, **options: Any) -> Any:
    """Megatron-Core 0.19 keeps what the MLP reads with the layer, and so the graph behind it, until the layer's end; a
    forward that is computed again stops before, once it has all that the backward needs."""
    try:
        return forward(*inputs, **options)
    finally:
        if hasattr(layer, HELD):
            setattr(layer, HELD, None)


def _checkpointed(layer: torch.nn.Module, forward: Any, *inputs: Any, **options: Any) -> Any:
    if not (layer.training and torch.is_grad_enabled()):
        return forward(*inputs, **options)
    # There is no dropout, so there is no random state to restore.
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **options)
