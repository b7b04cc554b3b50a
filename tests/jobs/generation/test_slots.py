"""Rows of keys and values against plain tensors, column by column."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from jobs.generation.slots import SPARE, Slots

HEADS, WIDTH = 2, 3


def numbered(rows: int, columns: int, begin: int = 1) -> torch.Tensor:
    """[rows, heads, columns, width], all different."""
    count = rows * HEADS * columns * WIDTH
    return torch.arange(begin, begin + count, dtype=torch.float32).view(rows, HEADS, columns, WIDTH)


def read(rows: int, columns: int, layers: int = 2) -> DynamicCache:
    """What a model has read: a layer's keys, and its values, which are the keys' negatives."""
    cache = DynamicCache()
    for layer in range(layers):
        keys = numbered(rows, columns, 1 + 1000 * layer)
        cache.update(keys, -keys, layer)
    return cache


def opened(rows: int, columns: int) -> Slots:
    """Two layers of free rows, their columns used and 0."""
    slots = Slots(2)
    assert slots.rows == 0
    slots.open(read(1, 1))
    assert (slots.rows, slots.length) == (0, 0)
    slots.arrange(rows, columns, columns)
    return slots


def used(slots: Slots, layer: int = 0) -> torch.Tensor:
    return slots.layers[layer].keys[:, :, : slots.length]


def test_sequences_end_at_the_same_column() -> None:
    slots, prompts = opened(3, 4), read(2, 3)
    slots.put([2, 0], prompts, [0, 1], [3, 2])
    for layer in range(2):
        keys = prompts.layers[layer].keys
        assert torch.equal(used(slots, layer)[2, :, 1:], keys[0])
        assert torch.equal(used(slots, layer)[0, :, 2:], keys[1, :, :2])
        assert torch.equal(slots.layers[layer].values[2, :, 1:4], -keys[0])
        assert not used(slots, layer)[1].any(), "a row that is not given stays free"


def test_a_new_column_is_appended_and_only_what_counts_is_seen() -> None:
    slots, prompts = opened(2, 3), read(2, 3)
    slots.put([0, 1], prompts, [0, 1], [3, 3])
    slots.see(2)
    new = numbered(2, 1, 500)
    keys, values = slots.update(new, -new, 0)
    assert torch.equal(keys, torch.cat([prompts.layers[0].keys[:, :, 1:], new], 2))
    assert torch.equal(values, -keys)
    assert slots.get_seq_length() == 3 and slots.length == 4


def test_buffers_grow_when_they_are_full_and_not_before() -> None:
    slots = opened(1, 2)
    assert slots.room == SPARE
    before, new = slots.layers[0].keys, numbered(1, SPARE)
    slots.update(new, -new, 0)
    assert slots.layers[0].keys is before and slots.room == 0
    last = numbered(1, 1, 9000)
    keys, _ = slots.update(last, -last, 0)
    assert slots.layers[0].keys is not before and slots.room == SPARE
    assert torch.equal(keys[:, :, 2:], torch.cat([new, last], 2)) and not keys[:, :, :2].any()


def test_columns_move_right_and_left() -> None:
    slots, prompts = opened(2, 3), read(2, 3)
    slots.put([0, 1], prompts, [0, 1], [3, 3])
    whole = prompts.layers[1].keys
    slots.arrange(3, 2, 5)
    assert (slots.rows, slots.length, slots.room) == (3, 5, SPARE)
    assert torch.equal(used(slots, 1)[:2, :, 2:], whole) and not used(slots, 1)[:2, :, :2].any()
    assert not used(slots, 1)[2].any()
    slots.arrange(1, -3, 2)
    assert (slots.rows, slots.length) == (1, 2)
    assert torch.equal(used(slots, 1), whole[:1, :, 1:]), "the first column went with the two free ones"


def test_rows_are_kept_in_the_order_asked_for() -> None:
    slots, prompts = opened(3, 2), read(3, 2)
    slots.put([0, 1, 2], prompts, [0, 1, 2], [2, 2, 2])
    slots.keep([2, 0])
    assert slots.rows == 2
    assert torch.equal(used(slots), prompts.layers[0].keys[[2, 0]])
    assert torch.equal(slots.layers[0].values[:, :, :2], -used(slots))
