"""Where a family's layers compute something that Megatron has no setting for: rotary embeddings of some layers only,
scaled embeddings, residuals and logits, and caps. Hooks do it, which stay with their layers where others are dropped.

Owns what is done at run time; the norms and windows of a layer are in `attention`, its weights' names in `weights`."""

from __future__ import annotations

import functools
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel

from conf.families import family_of
from conf.hf_config import FULL, caps, head_dim


def install(model: GPTModel, config: dict[str, Any]) -> None:
    """Let this pipeline stage's part of `model` compute what the family of `config` does."""
    family, (scores_cap, logits_cap) = family_of(config), caps(config)
    for layer in model.decoder.layers:
        position = layer.layer_number - 1
        if family.unrotated and not config["no_rope_layers"][position]:
            # Megatron's `no_rope_freq` looks it up by layer number, which changes where layers are dropped
            layer.self_attention.register_forward_pre_hook(_without_rotary, with_kwargs=True)
        if family.local_theta is not None:
            which = int(config["layer_types"][position] != FULL)
            turn = functools.partial(_with_table, which, head_dim(config))
            layer.self_attention.register_forward_pre_hook(turn, with_kwargs=True)
        layer.self_attention.core_attention.cap = scores_cap
        if family.multipliers and config["residual_multiplier"] != 1:
            for part in (layer.self_attention, layer.mlp):
                part.register_forward_hook(functools.partial(_scaled_output, config["residual_multiplier"]))
    if model.pre_process and (family.root_scaled or family.multipliers):
        multiplier = None if family.root_scaled else config["embedding_multiplier"]
        model.embedding.register_forward_hook(functools.partial(_scaled_embedding, multiplier))
    if model.post_process and family.multipliers:
        model.output_layer.register_forward_pre_hook(functools.partial(_divided_input, config["logits_scaling"]))
    if model.post_process and logits_cap is not None:
        model.output_layer.cap = logits_cap
        model.output_layer.register_forward_hook(_capped_output)


def _without_rotary(_: Any, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return inputs, named | {"rotary_pos_emb": None}


def _with_table(which: int, width: int, _: Any, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Of the rotary tables that stand side by side, the layer's own."""
    return inputs, named | {"rotary_pos_emb": named["rotary_pos_emb"][..., which * width : (which + 1) * width]}


def _scaled_output(multiplier: float, _: Any, __: Any, output: tuple[torch.Tensor, None]) -> tuple[torch.Tensor, None]:
    hidden, bias = output
    assert bias is None, "no family with multipliers has biases"
    return hidden * multiplier, None


def _scaled_embedding(multiplier: float | None, _: Any, __: Any, hidden: torch.Tensor) -> torch.Tensor:
    """None: the root of the hidden size, that of a cut model too, rounded as transformers rounds it."""
    if multiplier is None:
        return hidden * torch.tensor(hidden.shape[-1] ** 0.5, dtype=hidden.dtype, device=hidden.device)
    return hidden * multiplier


def _divided_input(divisor: float, _: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The output layer is linear, so dividing what it reads divides the logits, wherever they are computed."""
    hidden, *rest = inputs
    return (hidden / divisor, *rest)


def _capped_output(layer: Any, _: Any, output: tuple[torch.Tensor, None]) -> tuple[torch.Tensor, None]:
    """A deferred output layer gives hidden states; `fused_loss` caps the logits that it makes of them."""
    logits, bias = output
    return (logits if getattr(layer, "deferred", False) else torch.tanh(logits / layer.cap) * layer.cap), bias
