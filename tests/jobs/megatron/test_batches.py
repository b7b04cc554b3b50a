"""Micro-batches of each replica and the means of their losses, with ranks made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from jobs.megatron import batches
from jobs.tokens.windows import Samples

pytestmark = pytest.mark.usefixtures("one_rank")


def cut(samples: Samples, rank: int, ranks: int, micro: int, patch: pytest.MonkeyPatch) -> list[batches.Batch]:
    config: Any = SimpleNamespace(micro_batch=micro, parallel=SimpleNamespace(data=ranks))
    patch.setattr(batches.parallel_state, "get_data_parallel_rank", lambda: rank)
    return batches.micro_batches(samples, config)


TOKENS = np.arange(8 * 5).reshape(8, 5)
ADDRESSES = TOKENS[:, :-1] + 1000


def samples(**given: Any) -> Samples:
    return Samples(tokens=TOKENS, addresses=ADDRESSES, **given)


def test_replicas_take_turns_in_a_global_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = (cut(samples(), rank, 2, 2, monkeypatch) for rank in range(2))
    assert [batch.tokens[:, 0].tolist() for batch in ours] == [[0, 5], [20, 25]]
    assert [batch.tokens[:, 0].tolist() for batch in theirs] == [[10, 15], [30, 35]]
    for batch in (*ours, *theirs):
        assert torch.equal(batch.labels, batch.tokens + 1)
        assert torch.equal(batch.addresses, batch.tokens + 1000)
        assert batch.positions.tolist() == [[0, 1, 2, 3]] * 2
        assert batch.packed is None
        torch.testing.assert_close(batch.weights, torch.full((2, 4), 4 / 32))


def test_weights_make_the_mean_over_counted_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the whole global batch, though its micro-batches hold unequal numbers of them."""
    counted = np.random.default_rng(0).random((8, 4)) < 0.3
    losses = np.random.default_rng(1).random((8, 4)).astype(np.float32)
    sums = []
    for rank in range(2):
        for batch in cut(samples(counted=counted), rank, 2, 2, monkeypatch):
            rows = (batch.tokens[:, 0] // 5).numpy()
            sums.append(float((torch.from_numpy(losses[rows]) * batch.weights).sum()))
            assert batch.weights.dtype == torch.float32
    assert np.mean(sums) == pytest.approx(losses[counted].mean())


def test_a_batch_that_counts_nothing_weighs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.zeros((8, 4), np.bool_)
    assert all(batch.weights.eq(0).all() for batch in cut(samples(counted=nothing), 0, 1, 4, monkeypatch))
    one = nothing.copy()
    one[3, 2] = True
    assert sum(float(batch.weights.sum()) for batch in cut(samples(counted=one), 0, 1, 4, monkeypatch)) == 2.0


def test_packed_rows_have_bounds_and_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = np.array([[0, 0, 1, 1], [0, 1, 1, 1]] * 4)
    positions = np.array([[0, 1, 0, 1], [0, 0, 1, 2]] * 4)
    found = cut(samples(segments=segments, positions=positions), 0, 1, 2, monkeypatch)
    assert len(found) == 4
    for batch in found:
        assert batch.positions.tolist() == positions[:2].tolist()
        assert batch.packed is not None
        assert batch.packed.cu_seqlens_q.tolist() == [0, 2, 4, 5, 8]
        assert (batch.packed.max_seqlen_q, batch.packed.max_seqlen_kv) == (3, 3)


@pytest.mark.parametrize(
    ("context", "expected"), [(1, [[*range(12)]]), (2, [[0, 1, 2, 9, 10, 11], [3, 4, 5, 6, 7, 8]])]
)
def test_a_rank_has_a_chunk_from_either_end(
    context: int, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = torch.arange(12) + torch.tensor([[0], [20]])
    monkeypatch.setattr(batches.parallel_state, "get_context_parallel_world_size", lambda: context)
    for rank, columns in enumerate(expected):
        monkeypatch.setattr(batches.parallel_state, "get_context_parallel_rank", lambda rank=rank: rank)
        assert batches.of_this_rank(sequences).tolist() == [columns, [20 + column for column in columns]]


@pytest.mark.parametrize("context", [1, 2])
def test_losses_are_means_of_micro_batches(context: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of context-parallel ranks the sums, since each has a part of every sequence."""
    monkeypatch.setattr(batches.parallel_state, "get_context_parallel_world_size", lambda: context)
    losses = [
        {"loss": torch.tensor(1.0), "kl": torch.tensor(0.5)},
        {"loss": torch.tensor(4.0), "kl": torch.tensor(1.5)},
    ]
    assert batches.mean_over_ranks(losses) == {"kl": 1.0 * context, "loss": 2.5 * context}


def test_a_stage_without_losses_hears_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of two pipeline stages has them."""

    def broadcast(box: list[Any], src: int) -> None:
        assert src == 1
        box[0] = ["kl", "loss"]

    def reduce(sums: torch.Tensor) -> None:
        assert sums.tolist() == [0, 0, 0]
        sums.copy_(torch.tensor([1.0, 3.0, 2.0]))

    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    assert batches.mean_over_ranks([]) == {"kl": 0.5, "loss": 1.5}
