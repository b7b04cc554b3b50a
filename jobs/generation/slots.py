"""Keys and values of rows that all end at the same column, so that a row can be given to another sequence.

transformers' own layers are copied for each new token, and give a row up only with its whole batch."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

SPARE = 128
"""Columns by which buffers are made longer than needed."""


class SlotLayer(DynamicLayer):
    """One layer's keys and values, each [rows, heads, columns, width]. The first `length` columns are used, and
    attention sees those from `first` on."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one column or more, [rows, heads, new, width], to all rows; returns the columns from `first` on."""
        end = self.length + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            self.arrange(self.keys.shape[0], 0, end)
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, self.first : end], self.values[:, :, self.first : end]

    def get_seq_length(self) -> int:
        """Columns that attention sees."""
        return self.length - self.first

    def open(self, like: DynamicLayer) -> None:
        """No rows, of the heads and width of `like`."""
        self.keys, self.values = like.keys[:0, :, :0], like.values[:0, :, :0]
        self.is_initialized = True

    def arrange(self, rows: int, shift: int, columns: int) -> None:
        """Copy into buffers of `rows` rows and at least `columns` columns, with all columns moved `shift` to the right,
        or to the left where it is negative, which drops the first. What is new is 0."""
        kept, first = min(rows, self.keys.shape[0]), max(-shift, 0)
        length = self.length + shift
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(rows, old.shape[1], columns + SPARE, old.shape[3])
            new[:kept, :, max(shift, 0) : length] = old[:kept, :, first : self.length]
            setattr(self, name, new)
        self.length = length

    def put(self, rows: torch.Tensor, layer: DynamicLayer, sources: torch.Tensor, columns: torch.Tensor) -> None:
        """Fill the last n columns used of `rows` with `columns` [rows, n] of the rows `sources` of another layer."""
        span = slice(self.length - columns.shape[1], self.length)
        for mine, theirs in ((self.keys, layer.keys), (self.values, layer.values)):
            mine[rows, :, span] = theirs.transpose(1, 2)[sources[:, None], columns].transpose(1, 2)

    def keep(self, rows: torch.Tensor) -> None:
        """Only these rows, in this order."""
        self.keys, self.values = self.keys[rows], self.values[rows]


class Slots(Cache):
    """All layers of a model, always with the same rows and columns."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[SlotLayer() for _ in range(layers)])

    def open(self, like: Cache) -> None:
        """No rows, of the heads and widths of `like`."""
        for mine, theirs in zip(self.layers, like.layers, strict=True):
            mine.open(theirs)

    @property
    def length(self) -> int:
        """Columns used."""
        return int(self.layers[0].length)

    @property
    def rows(self) -> int:
        """Rows, free or not; 0 before any was made."""
        return int(self.layers[0].keys.shape[0]) if self.layers[0].is_initialized else 0

    @property
    def room(self) -> int:
        """Columns that can still be used before the buffers are copied."""
        return int(self.layers[0].keys.shape[-2]) - self.length

    def arrange(self, rows: int, shift: int, columns: int) -> None:
        """As SlotLayer.arrange."""
        for layer in self.layers:
            layer.arrange(rows, shift, columns)

    def put(self, rows: list[int], read: Cache, sources: list[int], lengths: list[int]) -> None:
        """Fill `rows` with the first `lengths` columns of the rows `sources` of `read`, which then end where all do."""
        width = max(lengths)
        starts = torch.tensor(lengths)[:, None] - width
        columns = (torch.arange(width)[None] + starts).clamp(min=0)  # before its start, a row is masked
        for mine, theirs in zip(self.layers, read.layers, strict=True):
            device = theirs.keys.device
            mine.put(
                torch.tensor(rows, device=device), theirs, torch.tensor(sources, device=device), columns.to(device)
            )

    def see(self, columns: int) -> None:
        """Attention sees the last `columns` columns."""
        for layer in self.layers:
            layer.first = layer.length - columns

    def keep(self, rows: list[int]) -> None:
        """Only these rows, in this order."""
        for layer in self.layers:
            layer.keep(torch.tensor(rows, device=layer.keys.device))
