"""The layers of a model: Transformer Engine's on a GPU where it is installed, else Megatron's local ones with PyTorch's
fused attention.

Megatron's own local attention keeps the whole [batch x heads, length, length] scores in memory, passes over them a
dozen times, and knows no context parallelism; its local norms know no sequence parallelism. Both are fixed here."""

from __future__ import annotations

import copy
import functools
import importlib.util
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_layer import TransformerLayer, TransformerLayerSubmodules
from megatron.core.transformer.utils import is_layer_window_attention

from jobs.megatron import capping

CPU_WIDTH = 16
"""Heads narrower than a vector register's 16 numbers take PyTorch's CPU kernel longer than padded ones: 1.5 times at a
width of 8."""


class FusedAttention(DotProductAttention):
    """Same inputs, outputs and (absent) parameters as the class it replaces; causal only, no dropout, no mask.

    Packed samples arrive in Transformer Engine's form, `PackedSeqParams` in its `thd` layout: one row of tokens with
    the bounds of its samples. Attention runs on each sample separately, so that nothing can leak and no [length,
    length] mask is made.

    Under context parallelism of size C each sequence is cut into 2C chunks and rank r holds chunks r and 2C-1-r, as
    `batches.of_this_rank` distributes them; keys and values of all ranks are gathered (Transformer
    Engine's `all_gather`)."""

    def __init__(self, config: TransformerConfig, *positional: Any, **named: Any) -> None:
        without_context = copy.copy(config)
        without_context.context_parallel_size = 1  # the base class accepts no other, because of its own forward
        super().__init__(without_context, *positional, **named)
        self.config = config
        windowed = is_layer_window_attention(config.window_size, config.window_attn_skip_freq, self.layer_number)
        self.window = config.window_size[0] + 1 if windowed else None
        self.cap: float | None = None
        """What scores are capped at."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *positional: object,
        **options: object,
    ) -> torch.Tensor:
        """query [length, batch, heads, width], key and value [length, batch, groups, width] -> [length, batch, heads x
        width]; packed ones have no batch dimension."""
        assert attention_mask is None, "packing alone decides what a token may see"
        assert query.shape[0] == key.shape[0], "there is no key-value cache in training"
        dtype, packed = query.dtype, options.get("packed_seq_params")
        if query.device.type == "cpu":
            # PyTorch's CPU kernel is about twice as fast in fp32 as in bf16 (tests/bench/results/training.md), and
            # closer to exact.
            query, key, value = query.float(), key.float(), value.float()
        if self.config.context_parallel_size > 1:
            assert packed is None, "packed rows are not spread over context-parallel ranks"
            return self._context_parallel(query, key, value).flatten(2).to(dtype)
        if packed is None:
            return self._causal(query, key, value).flatten(2).to(dtype)
        assert isinstance(packed, PackedSeqParams) and packed.qkv_format == "thd", "packed samples need the layout thd"
        lengths = packed.cu_seqlens_q.diff().tolist()
        parts = zip(*(tensor.unsqueeze(1).split(lengths) for tensor in (query, key, value)), strict=True)
        return torch.cat([self._causal(*part) for part in parts]).squeeze(1).flatten(1).to(dtype)

    def _causal(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """[length, batch, heads, width] -> [length, batch, heads, width]."""
        if self.cap is not None:
            how = capping.Scores(scale=self.softmax_scale, cap=self.cap, window=self.window)
            return capping.attention(query, key, value, how)
        mask = _mask(query.shape[0], key.shape[0], self.window, query.device)
        width = query.shape[3]
        padding = max(0, CPU_WIDTH - width) if query.device.type == "cpu" else 0
        if padding:  # zeros, which change no product
            query, key, value = (torch.nn.functional.pad(tensor, (0, padding)) for tensor in (query, key, value))
        context = torch.nn.functional.scaled_dot_product_attention(
            query.permute(1, 2, 0, 3),
            key.permute(1, 2, 0, 3),
            value.permute(1, 2, 0, 3),
            attn_mask=mask,
            is_causal=mask is None,
            scale=self.softmax_scale,
            enable_gqa=query.shape[2] != key.shape[2],
        )
        return context.permute(2, 0, 1, 3)[..., :width]

    def _context_parallel(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """The same over this rank's two chunks of each sequence, which attend to everything before them on all
        context-parallel ranks."""
        size, rank = self.config.context_parallel_size, parallel_state.get_context_parallel_rank()
        chunk = query.shape[0] // 2
        keys, values = _in_order(key, size), _in_order(value, size)
        parts = []
        for chunk_index, part in zip((rank, 2 * size - 1 - rank), query.split(chunk), strict=True):
            visible = (chunk_index + 1) * chunk
            parts.append(self._causal(part, keys[:visible], values[:visible]))
        return torch.cat(parts)


def _mask(length: int, visible: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which of the `visible` keys each of the last `length` tokens sees [length, visible]; None where it is what
    PyTorch's own causal mask says, which aligns both at the first token."""
    if length == visible and (window is None or window >= visible):
        return None
    mask = torch.ones(length, visible, dtype=torch.bool, device=device).tril(visible - length)
    return mask if window is None else mask.triu(visible - length - window + 1)


def _in_order(local: torch.Tensor, size: int) -> torch.Tensor:
    """Whole sequences [length, ...] from the context-parallel ranks' parts; in backward each part gets the gradients of
    all ranks."""
    gathered = gather_from_sequence_parallel_region(local, group=parallel_state.get_context_parallel_group())
    order = [chunk_index for rank in range(size) for chunk_index in (rank, 2 * size - 1 - rank)]
    chunks = gathered.chunk(2 * size)
    return torch.cat([chunks[order.index(chunk_index)] for chunk_index in range(2 * size)])


class ZeroCentredNorm(torch.nn.RMSNorm):
    """RMSNorm that multiplies by 1 + its weight, in fp32 as transformers' Gemma does: 1 + w is no bf16 number."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[..., width] -> [..., width]."""
        weight = 1.0 + self.weight.float()
        return torch.nn.functional.rms_norm(inputs.float(), self.normalized_shape, weight, self.eps).type_as(inputs)


class Norm:
    """Makes torch.nn.RMSNorm, which ModelOpt can cut, or its zero-centred form, and marks its weight's gradient as
    partial where ranks share the tokens."""

    def __new__(cls, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **_: Any) -> Any:
        norm = (ZeroCentredNorm if config.layernorm_zero_centered_gamma else torch.nn.RMSNorm)(hidden_size, eps=eps)
        norm.weight.sequence_parallel = config.sequence_parallel
        return norm


def pack_params(segments: torch.Tensor) -> PackedSeqParams:
    """Megatron's description of packed rows: `segments` [rows, length] numbers each token's sample; the rows are
    concatenated.

    The bounds stay on the CPU, where attention and rotary embedding read them layer by layer; Transformer Engine needs
    them on the GPU."""
    rows, length = segments.shape
    numbered = (segments.cpu() + torch.arange(rows)[:, None] * (length + 1)).flatten()
    starts = torch.nonzero(numbered.diff()).flatten() + 1
    bounds = torch.cat([torch.tensor([0]), starts, torch.tensor([rows * length])]).int()
    longest = int(bounds.diff().max())
    if has_transformer_engine():
        bounds = bounds.to(torch.cuda.current_device())
    return PackedSeqParams(
        qkv_format="thd", cu_seqlens_q=bounds, cu_seqlens_kv=bounds, max_seqlen_q=longest, max_seqlen_kv=longest
    )


def has_transformer_engine() -> bool:
    """Whether layers can be Transformer Engine's: it is installed and there is a GPU."""
    return torch.cuda.is_available() and importlib.util.find_spec("transformer_engine") is not None


class SandwichLayer(TransformerLayer):
    """A layer with two more norms, on the outputs of its attention and of its MLP."""

    def __init__(self, config: TransformerConfig, submodules: TransformerLayerSubmodules, **named: Any) -> None:
        super().__init__(config, submodules, **named)
        norm = Norm if isinstance(self.self_attention.core_attention, FusedAttention) else _engine_norm()
        for name, part in (("post_attention_norm", self.self_attention), ("post_mlp_norm", self.mlp)):
            setattr(self, name, norm(config, config.hidden_size, config.layernorm_epsilon))
            part.register_forward_hook(functools.partial(self._normed, name))

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """As the parent, but a function of its own: by it, ModelOpt tells the two classes apart."""
        return super().forward(*inputs, **named)

    def _normed(self, name: str, _: Any, __: Any, output: tuple[torch.Tensor, None]) -> tuple[torch.Tensor, None]:
        hidden, bias = output
        assert bias is None, "no family with these norms has biases"
        return getattr(self, name)(hidden), None


def _engine_norm() -> Any:
    from megatron.core.extensions.transformer_engine import TENorm

    return TENorm


def layers(
    config: TransformerConfig, *, local: bool = False, sandwiched: bool = False
) -> ModuleSpec | TransformerBlockSubmodules:
    """The layers of this pipeline stage and the norm after the last; ModelOpt can cut `local` ones. `sandwiched`: with
    norms on both sides of attention and MLP."""
    if has_transformer_engine() and not local:
        spec = get_gpt_layer_with_transformer_engine_spec(
            config.num_moe_experts, config.moe_grouped_gemm, qk_layernorm=config.qk_layernorm
        )
        spec.module = SandwichLayer if sandwiched else spec.module
        return spec
    spec = get_gpt_layer_local_spec(config.num_moe_experts, normalization="RMSNorm", qk_layernorm=config.qk_layernorm)
    spec.module = SandwichLayer if sandwiched else spec.module
    inner = spec.submodules
    inner.input_layernorm = inner.pre_mlp_layernorm = Norm
    inner.self_attention.submodules.core_attention = FusedAttention
    if config.qk_layernorm:
        inner.self_attention.submodules.q_layernorm = inner.self_attention.submodules.k_layernorm = Norm
    return TransformerBlockSubmodules(layer_specs=[spec] * get_num_layers_to_build(config), layer_norm=Norm)
