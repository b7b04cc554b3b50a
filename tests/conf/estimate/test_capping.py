"""Bytes of capped attention scores by hand. tests/jobs/test_memory.py measures real ones."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import capping, memory, passes
from conf.parallel import Parallel
from tests.fixtures.estimates import ALONE, BY_CONTEXT, BY_TENSOR, LLAMA, one_pass

GEMMA = LLAMA.model_copy(update={"architecture": "gemma2"})
GEMMA_3 = LLAMA.model_copy(update={"architecture": "gemma3_text"})
SCORES = 3 * 4 * 20 * 20
"""Of one layer: 3 sequences, 4 heads, 20 tokens."""


@pytest.mark.parametrize(
    ("device", "precision", "forward", "backward"),
    [("cpu", "fp32", 4, 12), ("cpu", "bf16", 4, 12), ("cuda", "fp32", 4, 12), ("cuda", "bf16", 6, 14)],
)
def test_a_chunk_holds_scores_and_in_backward_their_slope(
    device: Any, precision: Any, forward: int, backward: int
) -> None:
    batch = one_pass(device, precision)
    assert capping.chunk_bytes(GEMMA, batch, ALONE, backward=False) == SCORES * forward
    assert capping.chunk_bytes(GEMMA, batch, ALONE, backward=True) == SCORES * backward
    assert capping.chunk_bytes(GEMMA, batch, BY_TENSOR, backward=True) == SCORES // 2 * backward
    assert capping.chunk_bytes(GEMMA, batch, BY_CONTEXT, backward=True) == SCORES // 2 * backward
    assert capping.chunk_bytes(GEMMA_3, batch, ALONE, backward=True) == 0


@pytest.mark.parametrize(("length", "queries"), [(256, 256), (512, 170), (4096, 21), (2**18, 1)])
def test_a_chunk_of_long_sequences_is_some_queries(length: int, queries: int) -> None:
    """2**20 scores at most, and at least those of one query."""
    batch = one_pass("cpu", "fp32", length=length)
    assert capping.chunk_bytes(GEMMA, batch, ALONE, backward=False) == 4 * 3 * 4 * length * queries
    assert capping.CHUNK_ELEMENTS["cuda"] == 2**25


@pytest.mark.parametrize(
    ("device", "precision", "each"), [("cpu", "fp32", 8), ("cpu", "bf16", 10), ("cuda", "fp32", 8), ("cuda", "bf16", 6)]
)
def test_transformers_holds_all_scores_of_a_layer(device: Any, precision: Any, each: int) -> None:
    batch = one_pass(device, precision)
    assert capping.whole_bytes(GEMMA, batch) == SCORES * each
    assert capping.whole_bytes(LLAMA, batch) == 0
    passed = passes.forward_bytes(GEMMA, batch, ALONE)
    assert memory.scoring(GEMMA, 10**6, batch).activations == passed + SCORES * each


def test_transformers_keeps_the_scores_of_all_layers() -> None:
    assert capping.kept_bytes(GEMMA, one_pass()) == 8 * 4 * SCORES
    assert capping.kept_bytes(LLAMA, one_pass()) == 0


def test_a_backward_pass_has_room_where_the_mlp_was() -> None:
    """The MLP's turn is first: only what a chunk takes beyond its activations, and those of its norms, is more."""
    batch = one_pass("cuda", "fp32", length=2048)
    narrow = GEMMA.model_copy(update={"ffn_hidden_size": 1})
    tokens, norms = 3 * 2048, (4 * 8 + 4 + 4 * 8) + (4 * 8 + 4)
    chunk = capping.chunk_bytes(narrow, batch, ALONE, backward=True)
    expected = tokens * 2 * 4 * 2 * (4 + 2) + chunk - tokens * (5 * 4 * 1 + norms) + tokens * 4 * 8
    assert passes.backward_bytes(narrow, batch, Parallel()) == expected
    wide = GEMMA.model_copy(update={"ffn_hidden_size": 2**20})
    assert passes.backward_bytes(wide, batch, ALONE) == tokens * (2 * 4 * 2**20 + 4 * 8)
