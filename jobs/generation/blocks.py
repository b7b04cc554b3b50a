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
    """One layer's blocks, keys and values [2, blocks, heads, width, BLOCK], and those of the common beginning, [heads,
    width, columns] and [heads, columns, width]. Blocks have their columns last: small products read these fastest."""

    both: torch.Tensor
    prefix: tuple[torch.Tensor, torch.Tensor] | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where the next token of each row goes and what it sees. Block and column of each row [rows]; the row of each
    block [blocks], and the position of its first column; the blocks of each row, [rows * most], and which of them are
    padding [rows, most]."""

    blocks: torch.Tensor
    columns: torch.Tensor
    positions: torch.Tensor
    owners: torch.Tensor
    starts: torch.Tensor
    places: torch.Tensor
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
            for place, whole in zip(layer.both, _quantized(states, own), strict=True):
                place[first : self.used] = _in_blocks(whole[:, :, self.length :])[index].transpose(2, 3)
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
            places=table.flatten().clamp(min=0),
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
                layer.both[:, new] = layer.both[:, old]
        self.tables = [[moved.get(block, block) for block in table] for table in tables]
        self.used = used

    def attend(
        self, number: int, query: torch.Tensor, new: torch.Tensor, at: Step, window: int | None, cap: float | None
    ) -> torch.Tensor:
        """What layer `number` takes from all before the new tokens and themselves, [rows, query heads, width], with the
        scaled queries [rows, query heads, width] and their own keys and then values [rows, 2 * heads, width], which are
        kept."""
        layer, rows = self.layers[number], len(query)
        heads, width = layer.both.shape[2:4]
        layer.both[:, at.blocks, :, :, at.columns] = new.view(rows, 2, heads, width)
        keys, values = layer.both[:, : self.used].flatten(1, 2).unbind()
        grouped = query.view(rows, heads, -1, width)
        hidden, before = at.bias(window, self.length)
        product = torch.bmm(grouped.index_select(0, at.owners).flatten(0, 1), keys)
        scores = _scores(product.view(self.used, heads, -1, BLOCK), hidden, cap)
        shares = scores.softmax(-1)
        means = torch.bmm(shares.to(values.dtype).flatten(0, 1), values.transpose(1, 2)).float()
        means = means.view(self.used, heads, -1, width)
        weights = _of_rows(_weight(scores, shares), at).masked_fill_(at.padding[:, :, None, None], -torch.inf)
        if not layer.prefix:
            merged = (_of_rows(means, at) * weights.softmax(1)[..., None]).sum(1)
        else:
            begin, weight = _begin(grouped, *layer.prefix, before, cap)
            weights = torch.cat([weights, weight[:, None]], 1).softmax(1)[..., None]
            merged = (_of_rows(means, at) * weights[:, :-1]).sum(1) + begin * weights[:, -1]
        return merged.to(query.dtype).view(query.shape)

    def _tensor(self, numbers: Sequence[object]) -> torch.Tensor:
        return torch.tensor(numbers, device=self.device)

    def _take(self, like: Cache | None, count: int) -> int:
        """The first of `count` new blocks, all side by side."""
        if like and not self.layers:
            prefix: list[Any] = [(keys[0].transpose(1, 2).contiguous(), values[0]) for keys, values in self.prefix]
            for states, begin in zip(like.layers, prefix or [None] * len(like.layers), strict=True):
                _, heads, _, width = states.keys.shape
                self.layers.append(Layer(states.keys.new_zeros(2, 0, heads, width, BLOCK), begin))
        first, self.used = self.used, self.used + count
        if self.used > self.layers[0].both.shape[1]:
            size = self.used + self.used // GROWTH
            for layer in self.layers:
                layer.both = _longer(layer.both, first, size)
        return first


def _scores(product: torch.Tensor, bias: torch.Tensor | None, cap: float | None) -> torch.Tensor:
    """Scores in fp32 from products of queries and keys, [parts, heads, group, columns]."""
    scores = product.float()
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    return scores if bias is None else scores.add_(bias)


def _weight(scores: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """What a part has beside others of its row: the logarithm of the sum of exp(scores), of which the largest share is
    exp(top) / sum; [parts, heads, group]."""
    return scores.amax(-1) - shares.amax(-1).log_()


def _begin(
    grouped: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, cap: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What queries [rows, heads, group, width] take from the prefix, [rows, heads, group, width], and its weight, with
    one product for all rows."""
    rows = len(grouped)
    product = torch.matmul(_stacked(grouped), keys).unflatten(1, (rows, -1)).transpose(0, 1)
    scores = _scores(product, None if bias is None else bias[:, None, None], cap)
    shares = scores.softmax(-1)
    means = torch.matmul(_stacked(shares.to(values.dtype)), values).unflatten(1, (rows, -1)).transpose(0, 1)
    return means.float(), _weight(scores, shares)


def _of_rows(parts: torch.Tensor, at: Step) -> torch.Tensor:
    """[blocks, ...] as [rows, most, ...]."""
    return parts.index_select(0, at.places).unflatten(0, at.padding.shape)


def _stacked(rows: torch.Tensor) -> torch.Tensor:
    """[rows, heads, group, n] as [heads, rows * group, n], for one product with what all rows share."""
    return rows.transpose(0, 1).flatten(1, 2)


def _in_blocks(states: torch.Tensor) -> torch.Tensor:
    """[rows, heads, columns, width] as [rows, blocks, heads, BLOCK, width], with 0 after the last column."""
    padded = torch.nn.functional.pad(states, (0, 0, 0, -states.shape[2] % BLOCK))
    return padded.unflatten(2, (-1, BLOCK)).transpose(1, 2)


def _longer(old: torch.Tensor, used: int, size: int) -> torch.Tensor:
    new = old.new_zeros(2, size, *old.shape[2:])
    new[:, :used] = old[:, :used]
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
    new = torch.cat([key[:, :, 0], value[:, :, 0]], 1)
    return blocks.attend(number, query[:, :, 0] * scaling, new, at, sliding_window, softcap)[:, None], None


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
