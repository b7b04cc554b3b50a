"""Bytes of attention scores where a family caps them, which no fused kernel does: pure functions of dimensions and
layout. tests/jobs/test_memory.py measures them on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conf.shape import Shape, family

if TYPE_CHECKING:
    from conf.estimate.passes import ForwardPass
    from conf.parallel import Parallel

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**25}
"""Scores that jobs/megatron/capping.py holds at once."""


def chunk_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel, *, backward: bool) -> int:
    """Temporary bytes of our own attention for one chunk of queries: the scores, in the backward pass also their tanh
    and their gradient; on a GPU again in 16 bits."""
    if family(shape).attention_cap is None:
        return 0
    rows = batch.sequences * shape.num_attention_heads // parallel.tensor * batch.seq_length
    scores = rows * min(batch.seq_length // parallel.context, max(1, CHUNK_ELEMENTS[batch.device] // rows))
    return scores * ((12 if backward else 4) + (2 if batch.exact == 2 else 0))


def whole_bytes(shape: Shape, batch: ForwardPass) -> int:
    """Temporary bytes of transformers' attention, which holds the scores of all tokens: as they are and after the
    softmax in fp32, for which the CPU copies narrow ones to fp32."""
    copied = 4 if batch.device == "cpu" and batch.bytes == 2 else 0
    return _scores(shape, batch) * (batch.bytes + 4 + copied)


def kept_bytes(shape: Shape, batch: ForwardPass) -> int:
    """Bytes that the backward pass of transformers' attention needs of all layers: tanh and softmax, which bf16 has
    twice."""
    return _scores(shape, batch) * shape.num_layers * 8


def _scores(shape: Shape, batch: ForwardPass) -> int:
    """Scores of one layer, of a family that caps them; else 0."""
    if family(shape).attention_cap is None:
        return 0
    return batch.sequences * shape.num_attention_heads * batch.seq_length**2
