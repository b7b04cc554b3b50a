"""Activation recomputation: a layer keeps its input alone and is computed again in the backward pass.

Around each layer, not inside Megatron's block: what distillation's hooks see of a layer's output then still carries its
gradient."""

from __future__ import annotations

import functools
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from torch.utils.checkpoint import checkpoint


def recompute_layers(model: GPTModel) -> None:
    """Let the layers of this pipeline stage keep only their inputs while they train; a teacher inside `model` is left
    alone."""
    for layer in model.decoder.layers:
        layer.forward = functools.partial(_again, layer, layer.forward)


def _again(layer: torch.nn.Module, forward: Any, *inputs: Any, **more: Any) -> Any:
    if not (layer.training and torch.is_grad_enabled()):
        return forward(*inputs, **more)
    # There is no dropout, so no random state has to be put back.
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **more)
