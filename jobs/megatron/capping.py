"""Soft caps as Gemma 2 has them, x becoming cap x tanh(x / cap): of attention scores, and of logits.

PyTorch's fused attention caps nothing, and its flex_attention has no backward pass on the CPU. Here a chunk of queries
at a time meets the keys that it can see, and the backward pass computes their scores again, as FlashAttention does (Dao
et al. 2022, arXiv 2205.14135): memory does not grow with the square of the length."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**25}
"""Scores held at once, over all sequences and heads: on the CPU few enough to stay in the cache."""


def cap_(logits: torch.Tensor, cap: float) -> torch.Tensor:
    """Logits capped in place."""
    return logits.div_(cap).tanh_().mul_(cap)


def slope(logits: torch.Tensor, cap: float) -> torch.Tensor:
    """The derivative of the cap at `logits` that are not capped yet, in their shape; in fp32 if they are narrower."""
    return logits.to(wide(logits), copy=True).div_(cap).tanh_().square_().neg_().add_(1)


def wide(tensor: torch.Tensor) -> torch.dtype:
    """The type that caps are computed in: fp32, or float64 where the tensor has it."""
    return torch.promote_types(tensor.dtype, torch.float32)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How attention scores come about: products of queries and keys times `scale`, capped, those of keys outside the
    `window` hidden."""

    scale: float
    cap: float
    window: int | None


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """A chunk of queries, the keys that at least one of them sees, and which of those each does not see [queries,
    keys]."""

    queries: slice
    keys: slice
    hidden: torch.Tensor


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: Scores) -> torch.Tensor:
    """Causal attention: query [length, batch, heads, width], key and value [visible, batch, groups, width] -> [length,
    batch, heads, width]. The queries are those of the last `length` of the visible tokens."""
    grouped = query.permute(1, 2, 0, 3).unflatten(1, (key.shape[2], -1))
    context: torch.Tensor = _Capped.apply(grouped, key.permute(1, 2, 0, 3), value.permute(1, 2, 0, 3), how)
    return context.flatten(1, 2).permute(2, 0, 1, 3)


class _Capped(torch.autograd.Function):
    """Queries [batch, groups, heads of a group, length, width], keys and values [batch, groups, visible, width]."""

    @staticmethod
    def forward(context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: Scores) -> torch.Tensor:
        output = torch.empty_like(query)
        logs = query.new_empty((*query.shape[:-1], 1), dtype=wide(query))
        for chunk in _chunks(query, key, how.window):
            scores = _tanh(query, key, chunk, how).mul_(how.cap).masked_fill_(chunk.hidden, -math.inf)
            highest = scores.amax(-1, keepdim=True)
            weights = scores.sub_(highest).exp_()
            total = weights.sum(-1, keepdim=True)
            product = weights.to(value.dtype).flatten(2, 3) @ value[:, :, chunk.keys]
            output[..., chunk.queries, :] = product.unflatten(2, total.shape[2:4]) / total
            logs[..., chunk.queries, :] = total.log_().add_(highest)
        context.save_for_backward(query, key, value, output, logs)
        context.how = how
        return output

    @staticmethod
    def backward(context: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        (query, key, value, output, logs), how = context.saved_tensors, context.how
        d_query = torch.empty_like(query)
        d_key, d_value = (torch.zeros_like(tensor, dtype=wide(tensor)) for tensor in (key, value))
        for chunk in _chunks(query, key, how.window):
            tanh = _tanh(query, key, chunk, how)
            scores = (tanh * how.cap).masked_fill_(chunk.hidden, -math.inf)
            weights = scores.sub_(logs[..., chunk.queries, :]).exp_()
            d_output = upstream[0][..., chunk.queries, :]
            mean = (d_output.to(weights.dtype) * output[..., chunk.queries, :]).sum(-1, keepdim=True)
            rows = d_output.flatten(2, 3)
            d_value[:, :, chunk.keys] += weights.to(value.dtype).flatten(2, 3).mT @ rows
            d_scores = (rows @ value[:, :, chunk.keys].mT).to(weights.dtype).view_as(weights)
            d_scores = d_scores.sub_(mean).mul_(weights).mul_(tanh.square_().neg_().add_(1)).mul_(how.scale)
            d_products = d_scores.to(query.dtype).flatten(2, 3)
            d_query[..., chunk.queries, :] = (d_products @ key[:, :, chunk.keys]).view_as(d_output)
            d_key[:, :, chunk.keys] += d_products.mT @ query[..., chunk.queries, :].flatten(2, 3)
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None


def _chunks(query: torch.Tensor, key: torch.Tensor, window: int | None) -> Iterator[_Chunk]:
    """All chunks, of as many queries as CHUNK_ELEMENTS allows."""
    (batch, groups, heads, length, _), visible = query.shape, key.shape[2]
    elements = CHUNK_ELEMENTS["cpu" if query.device.type == "cpu" else "cuda"]
    size, before = max(1, elements // (batch * groups * heads * visible)), visible - length
    for start in range(0, length, size):
        stop = min(start + size, length)
        first = 0 if window is None else max(0, start + before - window + 1)
        queries = torch.arange(start + before, stop + before, device=query.device)[:, None]
        keys = torch.arange(first, stop + before, device=query.device)
        hidden = keys > queries if window is None else (keys > queries) | (keys <= queries - window)
        yield _Chunk(queries=slice(start, stop), keys=slice(first, stop + before), hidden=hidden)


def _tanh(query: torch.Tensor, key: torch.Tensor, chunk: _Chunk, how: Scores) -> torch.Tensor:
    """tanh(score / cap) of a chunk [batch, groups, heads, queries, keys]."""
    queries = query[..., chunk.queries, :]
    products = queries.flatten(2, 3) @ key[:, :, chunk.keys].mT
    return products.to(wide(query)).unflatten(2, queries.shape[2:4]).mul_(how.scale / how.cap).tanh_()
