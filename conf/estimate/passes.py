"""Bytes of one micro-batch's activations on one rank, tensor by tensor: pure functions of dimensions, batch and layout.

Counted as in Korthikanti et al. 2022 (arXiv 2205.05198, section 4), per token and layer, for the layers of
jobs/megatron instead of GPT's: a decoder layer keeps the inputs of its norms and matrices, queries, keys and values,
and the operands of the gate and its product. Differences on a GPU (norms and attention stay bf16) follow PyTorch's
kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from conf.base import Precision
from conf.estimate import capping
from conf.parallel import Parallel
from conf.shape import Shape, family, head_dim

Device = Literal["cpu", "cuda"]
BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}

GROUP_ELEMENTS, GROUP_TOKENS = 2**26, 1024
"""Maximum logits of one model that the fused head computes at once: matrix products need many rows, and 2**26 in bf16
are 134 MB."""

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}
"""Logits of a group converted to fp32 at once: on the CPU few enough that the copies stay in the cache."""

CHUNK_COPIES = {False: 2, True: 4}
"""fp32 tensors of a chunk's size that a loss holds at once, without and with a teacher's logits."""


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """Input of one forward pass of one rank: number and length of sequences, precision, device."""

    sequences: int
    seq_length: int
    precision: Precision
    device: Device

    @property
    def bytes(self) -> int:
        """Bytes per element."""
        return BYTES[self.precision]

    @property
    def exact(self) -> int:
        """Bytes per element in norms and attention, which the CPU computes in fp32 and a GPU does not."""
        return 4 if self.device == "cpu" else self.bytes


class Passing(Protocol):
    """Settings of a stage with forward passes."""

    @property
    def seq_length(self) -> int: ...
    @property
    def precision(self) -> Precision: ...


def batch_of(config: Passing, sequences: int, device: Device) -> ForwardPass:
    """A forward pass over `sequences` sequences of a stage."""
    return ForwardPass(sequences=sequences, seq_length=config.seq_length, precision=config.precision, device=device)


def layer_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Activation bytes that the backward pass of one decoder layer needs for one micro-batch."""
    tokens, wide = batch.sequences * batch.seq_length // parallel.context, batch.bytes
    shared = parallel.tensor if parallel.sequence else 1
    return int(
        tokens * 2 * _norms_around(shape, batch) / shared
        + tokens * _attention(shape, batch) / parallel.tensor
        + tokens * _mlp(shape, batch, parallel)
        + 4 * wide * head_dim(shape) * batch.seq_length  # rotary tables
    )


def _norms_around(shape: Shape, batch: ForwardPass) -> float:
    """Bytes per token saved by the norms of one sublayer; the output of one after it is only added to the residual
    stream."""
    after = norm_bytes(shape.hidden_size, batch, output=False) if family(shape).sandwiched else 0
    return norm_bytes(shape.hidden_size, batch) + after


def _mlp(shape: Shape, batch: ForwardPass, parallel: Parallel) -> float:
    """Bytes per token saved by the gated MLP; by experts, for each that the token takes, also its input, what the
    router's weight multiplies, and where it stands; by the router, the probabilities and choices among all."""
    ffn, wide = shape.ffn_hidden_size / parallel.tensor, batch.bytes
    if shape.num_experts is None or shape.experts_per_token is None:
        return 5 * wide * ffn
    each = 6 * wide * ffn + wide * shape.hidden_size + 24
    return shape.experts_per_token * each + 5 * shape.num_experts


def busiest(shape: Shape) -> float:
    """Share of the tokens that one MLP computes at once: all, or twice the mean of an expert."""
    if shape.num_experts is None or shape.experts_per_token is None:
        return 1.0
    return min(1.0, 2 * shape.experts_per_token / shape.num_experts)


def _dispatched(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Bytes per token of its copies on the way to its experts and back. On the CPU, expert-parallel ranks gather the
    tokens of all of them, and their outputs."""
    gathered = 2 * parallel.expert if parallel.expert > 1 and batch.device == "cpu" else 0
    return batch.bytes * shape.hidden_size * (3 * (shape.experts_per_token or 0) + gathered)


def norm_bytes(width: int, batch: ForwardPass, output: bool = True) -> float:
    """Bytes per token saved by a norm: its input (on the CPU in fp32, with the normalised input), one number per row,
    and the output."""
    saved = 4 * 2 * width if batch.device == "cpu" else batch.bytes * width
    return saved + 4 + (batch.bytes * width if output else 0)


def _attention(shape: Shape, batch: ForwardPass) -> float:
    """Bytes per token saved by attention: queries, keys, values and context of PyTorch's fused kernel, one number per
    head, and the tensors of norms on queries and keys."""
    heads, groups, width = shape.num_attention_heads, shape.num_query_groups, head_dim(shape)
    saved = batch.exact * width * (2 * heads + 2 * groups) + 4 * heads
    if batch.exact != batch.bytes:
        saved += batch.bytes * width * heads  # the context again in bf16, for the output matrix
    else:
        saved += (
            batch.bytes * width * (heads + groups)
        )  # values are a view of the joint QKV output and keep all of it alive
    if family(shape).qk_norm:
        if batch.device == "cpu":
            saved += 8 * width * (heads + groups) + 4 * (heads + groups)
        else:
            saved += batch.bytes * width * heads + 4 * (heads + groups)
    return saved


def stream_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Bytes of the residual stream of one micro-batch, which is all that recomputation keeps per layer."""
    shared = parallel.context * (parallel.tensor if parallel.sequence else 1)
    return batch.bytes * batch.sequences * batch.seq_length * shape.hidden_size // shared


def backward_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Temporary bytes of a layer's backward pass: gradients around its gate, its attention or its norms."""
    tokens = batch.sequences * batch.seq_length // parallel.context
    gate = 2 * batch.bytes * shape.ffn_hidden_size / parallel.tensor * busiest(shape)
    gate += _dispatched(shape, batch, parallel)
    attention = (
        2 * batch.exact * head_dim(shape) * (shape.num_attention_heads + shape.num_query_groups) / parallel.tensor
    )
    norms = 2 * (4 if batch.device == "cpu" else batch.bytes) * shape.hidden_size
    shared = parallel.tensor if parallel.sequence else 1
    freed = tokens * (_mlp(shape, batch, parallel) + _norms_around(shape, batch) / shared)  # the MLP's turn is first
    capped = tokens * attention + max(0, capping.chunk_bytes(shape, batch, parallel, backward=True) - freed)
    return int(max(tokens * gate, capped, tokens * norms) + tokens * batch.bytes * shape.hidden_size)


def forward_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Peak bytes of a forward pass without gradients: the widest step of a layer and the residual stream."""
    tokens = batch.sequences * batch.seq_length // parallel.context
    gate = batch.bytes * 5 * shape.ffn_hidden_size / parallel.tensor * busiest(shape)
    gate += _dispatched(shape, batch, parallel)
    heads = 2 * shape.num_attention_heads + 2 * shape.num_query_groups
    attention = 2 * batch.exact * head_dim(shape) * heads // parallel.tensor
    capped = tokens * attention + capping.chunk_bytes(shape, batch, parallel, backward=False)
    return int(max(tokens * gate, capped) + tokens * 2 * batch.bytes * shape.hidden_size)


def head_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel, *, compared: bool) -> int:
    """Bytes of the fused head: hidden states and their gradient, the output weights' gradient, a group's logits and a
    chunk of them in fp32."""
    tokens, rows = batch.sequences * batch.seq_length // parallel.context, (shape.vocab_size or 0) // parallel.tensor
    if not rows:
        return 0
    group = min(tokens, GROUP_TOKENS, max(1, GROUP_ELEMENTS // rows))
    chunk = min(group, max(1, CHUNK_ELEMENTS[batch.device] // rows))
    gradient = (4 + (batch.bytes if batch.precision == "bf16" else 0)) * rows * shape.hidden_size
    states = 2 * batch.bytes * tokens * shape.hidden_size
    return (
        states + gradient + rows * ((2 if compared else 1) * batch.bytes * group + 4 * CHUNK_COPIES[compared] * chunk)
    )
