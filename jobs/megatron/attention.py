"""Causal self-attention through PyTorch's fused kernel, for Megatron's local layers where Transformer Engine is not installed.

Megatron's own local attention keeps the whole [batch x heads, length, length] scores in memory and passes over them a dozen times.
"""

from __future__ import annotations

import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.spec_utils import ModuleSpec


class FusedAttention(DotProductAttention):
    """Same inputs, outputs and (absent) parameters as the class it replaces; causal only, no dropout, no mask.

    Packed samples come as Transformer Engine takes them, `PackedSeqParams` in its `thd` layout: one row of tokens with the bounds of
    its samples. Each sample is then attended to by itself, so that nothing can leak and no [length, length] mask is made.
    """

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *rest: object,
        **more: object,
    ) -> torch.Tensor:
        """query [length, batch, heads, width], key and value [length, batch, groups, width] -> [length, batch, heads x width];
        packed ones have no batch dimension."""
        assert attention_mask is None, "what a token may see is said by the packing alone"
        assert query.shape[0] == key.shape[0], "there is no key-value cache in training"
        dtype, packed = query.dtype, more.get("packed_seq_params")
        if query.device.type == "cpu":
            # PyTorch's CPU kernel is about twice as fast in fp32 as in bf16 (tests/bench/results/training.md), and closer to exact.
            query, key, value = query.float(), key.float(), value.float()
        if packed is None:
            return self._causal(query, key, value).flatten(2).to(dtype)
        assert isinstance(packed, PackedSeqParams) and packed.qkv_format == "thd", "samples are packed in the layout thd"
        lengths = packed.cu_seqlens_q.diff().tolist()
        parts = zip(*(tensor.unsqueeze(1).split(lengths) for tensor in (query, key, value)), strict=True)
        return torch.cat([self._causal(*part) for part in parts]).squeeze(1).flatten(1).to(dtype)

    def _causal(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """[length, batch, heads, width] -> [length, batch, heads, width]."""
        context = torch.nn.functional.scaled_dot_product_attention(
            query.permute(1, 2, 0, 3),
            key.permute(1, 2, 0, 3),
            value.permute(1, 2, 0, 3),
            is_causal=True,
            scale=self.softmax_scale,
            enable_gqa=query.shape[2] != key.shape[2],
        )
        return context.permute(2, 0, 1, 3)


def packed(segments: torch.Tensor) -> PackedSeqParams:
    """What Megatron needs to know of packed rows: `segments` [rows, length] numbers each token's sample; the rows are taken end to end.

    The bounds stay on the CPU, where attention and rotary embedding read them, layer by layer.
    """
    rows, length = segments.shape
    numbered = (segments.cpu() + torch.arange(rows)[:, None] * (length + 1)).flatten()
    starts = torch.nonzero(numbered.diff()).flatten() + 1
    bounds = torch.cat([torch.tensor([0]), starts, torch.tensor([rows * length])]).int()
    longest = int(bounds.diff().max())
    return PackedSeqParams(qkv_format="thd", cu_seqlens_q=bounds, cu_seqlens_kv=bounds, max_seqlen_q=longest, max_seqlen_kv=longest)


def layer_spec(*, qk_layernorm: bool) -> ModuleSpec:
    """Megatron's local RMSNorm layer with the fused attention in place."""
    spec = get_gpt_layer_local_spec(normalization="RMSNorm", qk_layernorm=qk_layernorm)
    spec.submodules.self_attention.submodules.core_attention = FusedAttention
    return spec
