"""Keys and values of many rows in blocks of columns, and attention of each row's next token to them.

A row takes memory and time for its own length: transformers' caches pad all rows to the longest, and attention reads
the padding. What all rows begin with is kept once and is read once for all of them (as in Hydragen, arXiv 2402.05099);
the parts of a row are merged by their sums of exponentials, as in flash decoding. They are added in a fixed order, not
atomically, so that a job that is started again gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, Cache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 64
"""Columns of a block: a row has half of one too many on average, and fewer columns make more and smaller products."""
GROWTH = 8
"""Buffers are made longer by this part of what they hold, at least."""
HIDDEN = -1e30
"""Added to the scores of what a row does not see: finite, so that a part of which it sees nothing has weight 0."""
NAME = "imbik_blocks"
"""This attention's, for transformers."""


@dataclass
class Layer:
    """One layer's blocks and common beginning. Keys have their columns last, as the product with queries reads them:
    keys [blocks, heads, width, BLOCK], values [blocks, heads, BLOCK, width], and without blocks those of the prefix."""

    keys: torch.Tensor
    values: torch.Tensor
    prefix: tuple[torch.Tensor, torch.Tensor] | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where the next token of each row goes and what it sees. Block and column of each row [rows]; the row of each
    block [blocks], and the position of its first column; the blocks of each row, [rows, most], padded."""

    blocks: torch.Tensor
    columns: torch.Tensor
    positions: torch.Tensor
    owners: torch.Tensor
    starts: torch.Tensor
    table: torch.Tensor
    padding: torch.Tensor
    hidden: dict[int | None, tuple[torch.Tensor, torch.Tensor | None]] = field(default_factory=dict)

    def bias(self, window: int | None, prefix: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What is added to scores of blocks [blocks, 1, 1, BLOCK] and, with a window, of the prefix [rows, columns]."""
        if window not in self.hidden:
            device = self.positions.device
            columns = self.starts[:, None] + torch.arange(BLOCK, device=device)
            own = self.positions[self.owners][:, None]
            unseen, before = columns > own, None
            if window is not None:
                unseen |= columns <= own - window
                past = torch.arange(prefix, device=device) <= self.positions[:, None] - window
                before = past * HIDDEN
            self.hidden[window] = (unseen * HIDDEN)[:, None, None], before
        return self.hidden[window]


class Blocks:
    """All layers of a model. Rows are numbered in the order in which they were put in."""

    def __init__(self, model: PreTrainedModel, prefix: Cache | None, length: int) -> None:
        self.quantizers = [_quantizers(layer.self_attn) for layer in model.model.layers]
        self.device, self.length = model.device, length
        self.prefix = (
            [_quantized(layer, own) for layer, own in zip(prefix.layers, self.quantizers, strict=True)]
            if prefix
            else []
        )
        self.layers: list[Layer] = []
        self.tables: list[list[int]] = []
        self.used = 0

    def put(self, read: Cache, sources: Sequence[int], lengths: Sequence[int]) -> None:
        """Add rows: the first `lengths` columns of the rows `sources` of `read`, all of which begin with the prefix."""
        counts = [-(-(length - self.length) // BLOCK) for length in lengths]
        first = self._take(read, sum(counts))
        rows = [source for source, count in zip(sources, counts, strict=True) for _ in range(count)]
        parts = [part for count in counts for part in range(count)]
        index = self._tensor(rows), self._tensor(parts)
        for layer, states, own in zip(self.layers, read.layers, self.quantizers, strict=True):
            keys, values = (_in_blocks(whole[:, :, self.length :]) for whole in _quantized(states, own))
            layer.keys[first : self.used] = keys[index].transpose(2, 3)
            layer.values[first : self.used] = values[index]
        for count in counts:
            self.tables.append(list(range(first, first + count)))
            first += count

    def step(self, positions: Sequence[int]) -> Step:
        """Room for one more token of each row, at these positions."""
        columns = [(position - self.length) % BLOCK for position in positions]
        for table, column, position in zip(self.tables, columns, positions, strict=True):
            if column == 0 and len(table) * BLOCK == position - self.length:
                table.append(self._take(None, 1))
        most = max(map(len, self.tables))
        owners, starts = [0] * self.used, [0] * self.used
        for row, table in enumerate(self.tables):
            for number, block in enumerate(table):
                owners[block], starts[block] = row, self.length + number * BLOCK
        padded = [table + [-1] * (most - len(table)) for table in self.tables]
        last, table = [table[-1] for table in self.tables], self._tensor(padded)
        return Step(
            blocks=self._tensor(last),
            columns=self._tensor(columns),
            positions=self._tensor(positions),
            owners=self._tensor(owners),
            starts=self._tensor(starts),
            table=table,
            padding=table < 0,
        )

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows, in this order. The last blocks move to where others become free."""
        tables = [self.tables[row] for row in rows]
        used = sum(map(len, tables))
        taken = {block for table in tables for block in table}
        free = [block for block in range(used) if block not in taken]
        moved = dict(zip(sorted(block for block in taken if block >= used), free, strict=True))
        if moved:
            old, new = self._tensor(list(moved)), self._tensor(list(moved.values()))
            for layer in self.layers:
                layer.keys[new], layer.values[new] = layer.keys[old], layer.values[old]
        self.tables = [[moved.get(block, block) for block in table] for table in tables]
        self.used = used

    def attend(
        self,
        number: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        at: Step,
        window: int | None,
        cap: float | None,
    ) -> torch.Tensor:
        """What layer `number` takes from all before the new tokens and themselves, [rows, query heads, width], with the
        scaled queries [rows, query heads, width] and their own keys and values [rows, heads, width], which are kept."""
        layer, used = self.layers[number], self.used
        layer.keys[at.blocks, :, :, at.columns], layer.values[at.blocks, :, at.columns] = key, value
        grouped = query.view(*key.shape[:2], -1, key.shape[2])
        hidden, before = at.bias(window, self.length)
        scores = torch.matmul(grouped[at.owners], layer.keys[:used])
        means, weights, tops = (part[at.table] for part in _part(scores, hidden, cap, layer.values[:used]))
        tops = tops.masked_fill_(at.padding[:, :, None, None, None], -torch.inf)
        if layer.prefix:
            keys, values = layer.prefix
            scores = torch.matmul(_stacked(grouped), keys).unflatten(1, (len(query), -1)).transpose(0, 1)
            begin = _part(scores, None if before is None else before[:, None, None], cap, values)
            both = zip((means, weights, tops), begin, strict=True)
            means, weights, tops = (torch.cat([own, new[:, None]], 1) for own, new in both)
        weights = weights * (tops - tops.amax(1, keepdim=True)).exp_()
        merged = (means * weights).sum(1) / weights.sum(1)
        return merged.to(query.dtype).view_as(query)

    def _tensor(self, numbers: Sequence[object]) -> torch.Tensor:
        return torch.tensor(numbers, device=self.device)

    def _take(self, like: Cache | None, count: int) -> int:
        """The first of `count` new blocks, all side by side."""
        if like and not self.layers:
            prefix: list[Any] = [(keys[0].transpose(1, 2).contiguous(), values[0]) for keys, values in self.prefix]
            for states, begin in zip(like.layers, prefix or [None] * len(like.layers), strict=True):
                _, heads, _, width = states.keys.shape
                empty = states.keys.new_zeros(0, heads, width, BLOCK)
                self.layers.append(Layer(empty, states.values.new_zeros(0, heads, BLOCK, width), begin))
        first, self.used = self.used, self.used + count
        if self.used > len(self.layers[0].keys):
            size = self.used + self.used // GROWTH
            for layer in self.layers:
                layer.keys, layer.values = _longer(layer.keys, first, size), _longer(layer.values, first, size)
        return first


def _part(
    scores: torch.Tensor, bias: torch.Tensor | None, cap: float | None, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of scores [parts, heads, group, columns]: the mean of the values by softmax, [parts, heads, group, width], and
    its weight beside others: the sum of exp(score - top), and the top, [parts, heads, group, 1]; all fp32."""
    scores = scores.float()
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    if bias is not None:
        scores = scores + bias
    shares = scores.softmax(-1)
    given = shares.to(values.dtype)
    if values.ndim == given.ndim:
        means = torch.matmul(given, values)
    else:  # the same for all rows
        means = torch.matmul(_stacked(given), values).unflatten(1, (len(given), -1)).transpose(0, 1)
    return means.float(), shares.amax(-1, keepdim=True).reciprocal(), scores.amax(-1, keepdim=True)


def _stacked(rows: torch.Tensor) -> torch.Tensor:
    """[rows, heads, group, n] as [heads, rows * group, n], for one product with what all rows share."""
    return rows.transpose(0, 1).flatten(1, 2)


def _in_blocks(states: torch.Tensor) -> torch.Tensor:
    """[rows, heads, columns, width] as [rows, blocks, heads, BLOCK, width], with 0 after the last column."""
    padded = torch.nn.functional.pad(states, (0, 0, 0, -states.shape[2] % BLOCK))
    return padded.unflatten(2, (-1, BLOCK)).transpose(1, 2)


def _longer(old: torch.Tensor, used: int, size: int) -> torch.Tensor:
    new = old.new_zeros(size, *old.shape[1:])
    new[:used] = old[:used]
    return new


def _quantizers(attention: torch.nn.Module) -> list[Any]:
    """What ModelOpt puts before attention where it simulates a cache's format: here it sees new tokens only."""
    return [getattr(attention, f"{letter}_bmm_quantizer", None) for letter in "kv"]


def _quantized(layer: Any, quantizers: list[Any]) -> list[torch.Tensor]:
    """Keys and values as an engine's cache holds them."""
    both = zip((layer.keys, layer.values), quantizers, strict=True)
    return [quantizer(states) if quantizer else states for states, quantizer in both]


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    blocks: Blocks,
    at: Step,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' interface: [rows, heads, 1, width] in, [rows, 1, heads, width] out."""
    number: Any = module.layer_idx
    new = query[:, :, 0] * scaling, key[:, :, 0], value[:, :, 0]
    return blocks.attend(number, *new, at, sliding_window, softcap)[:, None], None


AttentionInterface.register(NAME, _attention)


@contextmanager
def attending(model: PreTrainedModel) -> Iterator[None]:
    """Within it, the model attends to blocks."""
    usual = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = usual


def attended(model: PreTrainedModel, tokens: torch.Tensor, at: Step, blocks: Blocks) -> torch.Tensor:
    """The last hidden states [rows, width] after `tokens` [rows], by transformers' layers."""
    with attending(model):
        found: torch.Tensor = model.model(
            tokens[:, None], position_ids=at.positions[:, None], use_cache=False, blocks=blocks, at=at
        ).last_hidden_state
    return found[:, 0]
