"""Which tokens' logits are stored in which shard, and what a stored teacher says of a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from jobs import logits
from jobs.megatron import record_logits, stored_teacher
from jobs.megatron.stored_teacher import StoredTeacher


def windows(count: int, length: int, extra: int) -> Any:
    class Windows:
        """A split of so many sequences, and tokens after the last."""

        seq_length, tokens = length, np.zeros(count * length + 1 + extra)

        def __len__(self) -> int:
            return count

        def shuffled(self, position: int, number: int, seed: int) -> Any:
            assert position == 0
            return np.random.default_rng(seed).permutation(count)[:number]

    return Windows()


@pytest.mark.parametrize(
    ("size", "extra", "chosen", "expected"),
    [
        (8, 0, [0, 1, 2, 3, 4], [([0, 4], 4), ([8, 12], 4), ([16], 4)]),
        (11, 3, [0, 1, 2, 3, 4], [([0, 4], 4), ([8, 12], 4), ([16], 4), ([20], 3)]),
        (8, 3, [0, 2, 3], [([0, 8], 4), ([12], 4)]),
        (3, 0, [0, 3], [([0], 4), ([12], 4)]),
    ],
)
def test_shards_hold_runs_of_whole_sequences(
    size: int, extra: int, chosen: list[int], expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where the split is complete, the tokens after them."""
    monkeypatch.setattr(logits, "SHARD_TOKENS", size)
    found = logits._shards("train", windows(5, 4, extra), np.array(chosen))
    assert list(found) == [f"train-{number:05d}" for number in range(len(expected))]
    for (starts, lengths), (wanted, length) in zip(found.values(), expected, strict=True):
        assert starts.tolist() == wanted and lengths.tolist() == [length] * len(wanted)


@pytest.mark.parametrize(("count", "expected"), [(None, 5), (4, 4), (5, 5), (9, 5)])
def test_the_first_sequences_are_validated(count: int | None, expected: int) -> None:
    assert logits._first(windows(5, 4, 0), count).tolist() == list(range(expected))


@pytest.mark.parametrize("count", [None, 3, 5, 6])
def test_training_sequences_are_those_read_first(count: int | None) -> None:
    config: Any = SimpleNamespace(sequences=count, seed=7)
    expected = sorted(np.random.default_rng(7).permutation(5)[: count or 5].tolist())
    assert logits._ordered(windows(5, 4, 0), config).tolist() == expected


def test_addresses_are_runs() -> None:
    starts, lengths = record_logits._runs(np.array([3, 4, 5, 9, 20, 21, 1]))
    assert (starts.tolist(), lengths.tolist()) == ([3, 9, 20, 1], [3, 1, 2, 1])


@pytest.mark.parametrize(("tokens", "rows"), [(20, [(0, 2), (2, 4), (4, 5)]), (9, [(n, n + 1) for n in range(5)])])
def test_packed_rows_are_sharded(tokens: int, rows: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_logits, "SHARD_TOKENS", tokens)
    packed: Any = windows(5, 10, 0)
    names = {f"test-{number:05d}": range(*ends) for number, ends in enumerate(rows)}
    assert record_logits._names("test", packed) == names


IDS = np.array([[3, 5, 1], [0, 7, 2]])
LOGITS = np.array([[0.0, -1.0, -2.0], [0.0, -0.5, -3.0]])
REST = np.array([0.1, 0.0])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same rows in both splits, with losses that tell which."""

    class Store:
        top_k, vocab_size = 3, 8

        def __init__(self, folder: Any, split: str) -> None:
            self.loss = np.array([1.0, 3.0]) if split == "train" else np.array([5.0, 7.0])

        def rows(self, addresses: Any) -> Any:
            assert addresses.tolist() == [10, 11]
            return SimpleNamespace(ids=IDS, logits=LOGITS, rest=REST, loss=self.loss)

    monkeypatch.setattr(stored_teacher, "LogitStore", Store)
    return Store


def at_rank(rank: int, ranks: int, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stored_teacher.parallel_state, "get_tensor_model_parallel_rank", lambda: rank)
    patch.setattr(stored_teacher.parallel_state, "get_tensor_model_parallel_world_size", lambda: ranks)


def asked(top_k: int, training: bool = True) -> Any:
    config: Any = SimpleNamespace(top_k=top_k)
    batch: Any = SimpleNamespace(
        tokens=torch.zeros(1, 2), addresses=torch.tensor([[10, 11]]), weights=torch.tensor([[0.25, 0.5]])
    )
    return StoredTeacher(None, config)(SimpleNamespace(training=training), batch)  # type: ignore[arg-type]


@pytest.mark.parametrize(("training", "loss"), [(True, 0.25 + 1.5), (False, 1.25 + 3.5)])
def test_losses_are_of_the_models_split(
    training: bool, loss: float, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rank(0, 1, monkeypatch)
    assert float(asked(3, training).loss) == loss


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_what_is_not_compared_is_part_of_the_rest(top_k: int, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rank(0, 1, monkeypatch)
    found = asked(top_k).teacher(slice(0, 2))
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True) * (1 - REST[:, None])
    expected = REST + shares[:, top_k:].sum(1)
    assert found.rest.exp().flatten().tolist() == pytest.approx(np.maximum(expected, 1e-30).tolist(), rel=1e-5)
    assert found.indices.tolist() == IDS[:, :top_k].tolist() and found.inside.all()
    assert asked(top_k).teacher(slice(1, 2)).indices.tolist() == IDS[1:, :top_k].tolist()


@pytest.mark.parametrize(
    ("rank", "inside", "indices"),
    [(0, [[1, 0, 1], [1, 0, 1]], [[3, 3, 1], [0, 3, 2]]), (1, [[0, 1, 0], [0, 1, 0]], [[0, 1, 0], [0, 3, 0]])],
)
def test_a_rank_has_its_slice_of_the_vocabulary(
    rank: int, inside: Any, indices: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rank(rank, 2, monkeypatch)
    found = asked(3).teacher(slice(0, 2))
    assert found.inside.int().tolist() == inside and found.indices.tolist() == indices


def test_more_than_are_stored_is_refused(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rank(0, 1, monkeypatch)
    with pytest.raises(ValueError, match=r"distill\.top_k is 4 but only 3 logits per token are stored; choose at most"):
        asked(4)
