"""Causal self-attention through PyTorch's fused kernel, for Megatron's local layers where Transformer Engine is not installed.

Megatron's own local attention keeps the whole [batch x heads, length, length] scores in memory and passes over them a dozen times.
"""

from __future__ import annotations

import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.spec_utils import ModuleSpec


class FusedAttention(DotProductAttention):
    """Same inputs, outputs and (absent) parameters as the class it replaces; causal only, no dropout, no mask, no packing."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *rest: object,
        **more: object,
    ) -> torch.Tensor:
        """query [length, batch, heads, width], key and value [length, batch, groups, width] -> [length, batch, heads x width]."""
        assert attention_mask is None, "this pipeline trains on full causal windows"
        assert not any(rest) or more.get("packed_seq_params") is None, "packed sequences need Transformer Engine"
        assert query.shape[0] == key.shape[0], "there is no key-value cache in training"
        dtype = query.dtype
        if query.device.type == "cpu":
            # PyTorch's CPU kernel is about twice as fast in fp32 as in bf16 (tests/bench/results/training.md), and closer to exact.
            query, key, value = query.float(), key.float(), value.float()
        context = torch.nn.functional.scaled_dot_product_attention(
            query.permute(1, 2, 0, 3),
            key.permute(1, 2, 0, 3),
            value.permute(1, 2, 0, 3),
            is_causal=True,
            scale=self.softmax_scale,
            enable_gqa=query.shape[2] != key.shape[2],
        )
        return context.permute(2, 0, 1, 3).flatten(2).to(dtype)


def layer_spec(*, qk_layernorm: bool) -> ModuleSpec:
    """Megatron's local RMSNorm layer with the fused attention in place."""
    spec = get_gpt_layer_local_spec(normalization="RMSNorm", qk_layernorm=qk_layernorm)
    spec.submodules.self_attention.submodules.core_attention = FusedAttention
    return spec
