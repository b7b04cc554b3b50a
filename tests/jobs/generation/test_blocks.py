"""Attention to rows in blocks against softmax over each row's own keys and values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from jobs.generation.blocks import BLOCK, NAME, Blocks, attending

HEADS, GROUP, WIDTH = 2, 3, 4
Rows = list[tuple[torch.Tensor, torch.Tensor]]


def model(layers: int = 1, **attention: Any) -> Any:
    """What blocks ask of a model."""
    found = [SimpleNamespace(self_attn=SimpleNamespace(**attention)) for _ in range(layers)]
    return SimpleNamespace(model=SimpleNamespace(layers=found), device=torch.device("cpu"))


def drawn(length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a row, each [heads, length, width]."""
    chance = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, HEADS, length, WIDTH, generator=chance).unbind()
    return keys, values


def read(rows: Rows) -> DynamicCache:
    """As a model leaves them: padded on the right, here with what must not be seen."""
    cache, longest = DynamicCache(), max(keys.shape[1] for keys, _ in rows)
    both = [
        torch.stack([torch.nn.functional.pad(row[n], (0, 0, 0, longest - row[n].shape[1]), value=9.0) for row in rows])
        for n in (0, 1)
    ]
    cache.update(*both, 0)
    return cache


def stored(rows: Rows, prefix: int = 0) -> Blocks:
    """Blocks of these rows, all of which begin with the first `prefix` columns of the first."""
    begin = read([(rows[0][0][:, :prefix], rows[0][1][:, :prefix])]) if prefix else None
    blocks = Blocks(model(), begin, prefix)
    blocks.put(read(rows), range(len(rows)), [keys.shape[1] for keys, _ in rows])
    return blocks


def extended(blocks: Blocks, rows: Rows, window: int | None = None, cap: float | None = None) -> tuple[Rows, Any, Any]:
    """A new token for each row: the rows with it, what attention gives, and what it should."""
    new = [drawn(1, 100 + keys.shape[1]) for keys, _ in rows]
    query = torch.randn(len(rows), HEADS * GROUP, WIDTH, generator=torch.Generator().manual_seed(5))
    at = blocks.step([keys.shape[1] for keys, _ in rows])
    both = torch.stack([torch.cat([keys[:, 0], values[:, 0]]) for keys, values in new])
    found = blocks.attend(0, query, both, at, window, cap)
    longer = [
        (torch.cat([row[0], own[0]], 1), torch.cat([row[1], own[1]], 1)) for row, own in zip(rows, new, strict=True)
    ]
    expected = []
    for one, (keys, values) in zip(query, longer, strict=True):
        seen = slice(max(keys.shape[1] - window, 0) if window else 0, None)
        scores = one.view(HEADS, GROUP, WIDTH) @ keys[:, seen].transpose(1, 2)
        scores = torch.tanh(scores / cap) * cap if cap else scores
        expected.append((scores.softmax(-1) @ values[:, seen]).reshape(HEADS * GROUP, WIDTH))
    return longer, found, torch.stack(expected)


@pytest.mark.parametrize("window", [None, 5, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("cap", [None, 0.7])
def test_each_row_sees_its_own_columns_only(window: int | None, cap: float | None) -> None:
    rows = [drawn(length, length) for length in (1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7)]
    blocks = stored(rows)
    for _ in range(3):
        rows, found, expected = extended(blocks, rows, window, cap)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("window", [None, 3, 20, 45])
@pytest.mark.parametrize("cap", [None, 0.7])
def test_a_common_beginning_is_merged_in(window: int | None, cap: float | None) -> None:
    """Windows that see none of it, its end, or all of it."""
    begin = drawn(40, 1)
    rows = [
        (torch.cat([begin[0], k], 1), torch.cat([begin[1], v], 1))
        for k, v in (drawn(n, n) for n in (1, 8, 2 * BLOCK + 6))
    ]
    blocks = stored(rows, 40)
    assert blocks.used == 1 + 1 + 3, "its columns take no blocks"
    for _ in range(3):
        rows, found, expected = extended(blocks, rows, window, cap)
        torch.testing.assert_close(found, expected)


def test_a_block_is_added_when_the_last_is_full() -> None:
    rows = [drawn(BLOCK - 1, 1)]
    blocks = stored(rows)
    counts = []
    for _ in range(3):
        rows, _, _ = extended(blocks, rows)
        counts.append(blocks.used)
    assert counts == [1, 2, 2] and blocks.tables == [[0, 1]]


def test_a_step_that_is_not_finished_takes_no_second_block() -> None:
    blocks = stored([drawn(BLOCK, 1)])
    assert [blocks.step([BLOCK]).columns.tolist(), blocks.step([BLOCK]).columns.tolist()] == [[0], [0]]
    assert blocks.used == 2


def test_blocks_of_rows_that_end_are_given_up() -> None:
    rows = [drawn(length, length) for length in (2 * BLOCK, 3, BLOCK + 5, 2 * BLOCK + 1)]
    blocks = stored(rows)
    assert blocks.used == 2 + 1 + 2 + 3
    blocks.keep([3, 1])
    assert blocks.used == 4 and sorted(block for table in blocks.tables for block in table) == [0, 1, 2, 3]
    rows = [rows[3], rows[1]]
    rows, found, expected = extended(blocks, rows)
    torch.testing.assert_close(found, expected)
    size = blocks.layers[0].both.shape[1]
    more = [drawn(4, 77), drawn(BLOCK + 1, 78)]
    blocks.put(read(more), [1, 0], [BLOCK + 1, 4])
    assert blocks.layers[0].both.shape[1] == size, "the free blocks are taken again"
    _, found, expected = extended(blocks, [*rows, more[1], more[0]])
    torch.testing.assert_close(found, expected)


def test_all_rows_can_end() -> None:
    blocks = stored([drawn(5, 1), drawn(6, 2)])
    blocks.keep([])
    assert (blocks.used, blocks.tables) == (0, [])


def test_bf16_is_summed_in_fp32() -> None:
    keys, values = drawn(4 * BLOCK, 3)
    half = [(keys.bfloat16(), values.bfloat16())]
    blocks, query = stored(half), torch.randn(1, HEADS * GROUP, WIDTH).bfloat16()
    new = half[0][0][:, -1][None], half[0][1][:, -1][None]
    found = blocks.attend(0, query, torch.cat(new, 1), blocks.step([4 * BLOCK]), None, None)
    whole = [torch.cat([half[0][n], new[n][0][:, None]], 1).float() for n in (0, 1)]
    scores = query.float().view(HEADS, GROUP, WIDTH) @ whole[0].transpose(1, 2)
    expected = (scores.softmax(-1) @ whole[1]).reshape(1, HEADS * GROUP, WIDTH)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)


def test_what_was_read_is_rounded_as_the_cache_is() -> None:
    """ModelOpt rounds what attention is given: here new tokens only, so what a prompt leaves is rounded when stored."""
    rows = [drawn(BLOCK + 3, 1)]
    begin = read([(rows[0][0][:, :20], rows[0][1][:, :20])])
    blocks = Blocks(model(k_bmm_quantizer=torch.round, v_bmm_quantizer=torch.floor), begin, 20)
    blocks.put(read(rows), [0], [BLOCK + 3])
    layer = blocks.layers[0]
    assert layer.prefix
    keys, values = rows[0]
    assert torch.equal(layer.prefix[0], keys[:, :20].round().transpose(1, 2))
    assert torch.equal(layer.prefix[1], values[:, :20].floor())
    assert torch.equal(layer.both[0, 0, :, :, : BLOCK - 17], keys[:, 20:].round().transpose(1, 2))
    assert torch.equal(layer.both[1, 0, :, :, : BLOCK - 17], values[:, 20:].floor().transpose(1, 2))


def test_the_model_gets_its_own_attention_back() -> None:
    served: Any = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
    with pytest.raises(KeyError), attending(served):
        assert served.config._attn_implementation == NAME
        raise KeyError
    assert served.config._attn_implementation == "sdpa"
