"""Packing: every record in one row, rows well filled, and no sample sees another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conf.parallel import Parallel
from jobs.tokens.masked import MaskedTokens, MaskedWriter
from jobs.tokens.packing import PackedRecords, pack

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=200).map(lambda values: np.asarray(values, np.int32))


@given(LENGTHS, st.integers(64, 128), st.integers(0, 5))
def test_every_record_is_in_one_row_and_no_row_is_too_long(lengths: np.ndarray, capacity: int, seed: int) -> None:
    rows = pack(lengths, capacity, seed)
    assert sorted(record for row in rows for record in row) == list(range(len(lengths)))
    sums = [int(lengths[row].sum()) for row in rows]
    assert max(sums) <= capacity
    assert sum(total <= capacity // 2 for total in sums) <= 1, "two rows that are half empty would fit into one"
    assert rows == pack(lengths, capacity, seed)


def test_the_seed_decides_which_records_meet() -> None:
    lengths = np.full(64, 16, np.int32)
    assert pack(lengths, 64, 1) != pack(lengths, 64, 2)


def written(folder: Path, records: list[tuple[list[int], list[bool]]]) -> Path:
    with MaskedWriter(folder / "train", np.dtype(np.uint16)) as writer:
        for ids, mask in records:
            writer.add(ids, mask)
    return folder / "train"


def some_records(count: int, seed: int = 0) -> list[tuple[list[int], list[bool]]]:
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        length = int(generator.integers(3, 30))
        learned = int(generator.integers(1, length))
        found.append((generator.integers(1, 100, length).tolist(), [False] * (length - learned) + [True] * learned))
    return found


def test_rows_hold_masks_positions_and_addresses(tmp_path: Path) -> None:
    records = some_records(40)
    split = PackedRecords(written(tmp_path, records), 64, seed=3)
    samples = split.samples(range(len(split)))
    addresses = samples.addresses
    assert samples.counted is not None and samples.positions is not None and samples.segments is not None
    learned = 0
    for place, row in enumerate(split.rows):
        for number, record in enumerate(row):
            ids, mask = records[record]
            here = np.flatnonzero(samples.segments[place] == number)
            assert samples.tokens[place, here].tolist() == ids
            assert samples.positions[place, here].tolist() == list(range(len(ids)))
            assert samples.counted[place, here].tolist() == [
                *mask[1:],
                False,
            ], "a target is learned where it is the response's"
            assert split.records.tokens[addresses[place, here]].tolist() == ids
        padding = samples.segments[place] == len(row)
        assert not samples.counted[place, padding].any() and (addresses[place, padding] == -1).all()
        learned += int(samples.counted[place].sum())
    assert learned == sum(sum(mask[1:]) for _, mask in records)
    assert split.efficiency == pytest.approx(sum(len(ids) for ids, _ in records) / (64 * len(split)))


def test_samples_are_the_same_however_the_run_is_cut(tmp_path: Path) -> None:
    prefix = written(tmp_path, some_records(60))
    one, two = PackedRecords(prefix, 48, seed=1), PackedRecords(prefix, 48, seed=1)
    whole = one.shuffled(0, 50, 7)
    assert np.array_equal(whole[20:], two.shuffled(20, 30, 7))
    assert np.array_equal(one.samples(whole[20:]).tokens, two.samples(two.shuffled(20, 30, 7)).tokens)


def test_long_records_and_damaged_masks_are_refused(tmp_path: Path) -> None:
    prefix = written(tmp_path, [(list(range(1, 41)), [True] * 40)])
    with pytest.raises(ValueError, match=r"has 40 tokens but sft.seq_length is 32; choose at least 40"):
        PackedRecords(prefix, 32, seed=1)
    (tmp_path / "train.mask").write_bytes(b"\1" * 39)
    with pytest.raises(ValueError, match="has 39 bytes for 40 tokens; run the records stage again"):
        MaskedTokens(prefix)


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the train split of the records is empty"):
        PackedRecords(written(tmp_path, []), 32, seed=1)


def test_a_row_is_filled_to_its_last_place_and_padded_with_zeros(tmp_path: Path) -> None:
    records = [([5, 6, 7], [False, True, True]), ([8], [True]), ([9, 9, 9, 9], [True] * 4)]
    split = PackedRecords(written(tmp_path, records), 4, seed=1)
    assert sorted(map(sorted, split.rows)) == [[0, 1], [2]] and split.efficiency == 1
    rows = split.samples(range(2)).tokens.tolist()
    assert sorted(rows) == sorted([[5, 6, 7, 8, 0], [9, 9, 9, 9, 0]]), "one target more than inputs"
    half = PackedRecords(tmp_path / "train", 8, seed=1)
    assert half.efficiency == 1 and len(half) == 1
    padded = PackedRecords(tmp_path / "train", 10, seed=1).samples(range(1))
    assert padded.tokens[0, 8:].tolist() == [0, 0, 0] and padded.addresses[0, 8:].tolist() == [-1, -1]
    assert padded.positions is not None and padded.positions[0, 8:].tolist() == [0, 1]


@pytest.mark.parametrize(("multiple", "rows"), [(1, 3), (2, 4), (3, 3), (4, 4), (5, 5)])
def test_empty_rows_fill_a_multiple(tmp_path: Path, multiple: int, rows: int) -> None:
    split = PackedRecords(written(tmp_path, [([1, 2], [True] * 2)] * 3), 2, seed=1, multiple=multiple)
    assert len(split) == rows and split.efficiency == 1
    counted = split.samples(range(rows)).counted
    assert counted is not None and counted.sum() == 3


def test_rows_need_at_least_the_longest_record() -> None:
    assert pack(np.zeros(0, np.int32), 4, 0) == []
    assert pack(np.array([4], np.int32), 4, 0) == [[0]]
    with pytest.raises(AssertionError, match="a record is longer than a row"):
        pack(np.array([5], np.int32), 4, 0)


def test_the_fullest_row_that_has_room_is_taken() -> None:
    """6 and 5 open rows of 10; 4 fits both and fills the row of 6, so 3 and 2 fill the other."""
    assert pack(np.array([2, 4, 6, 3, 5], np.int32), 10, 0) == [[2, 1], [4, 3, 0]]


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 3])
def test_packed_samples_have_the_logits_of_single_ones(tmp_path: Path, teacher: Path, rows: int) -> None:
    from jobs.megatron import weights
    from jobs.megatron.attention import pack_params
    from jobs.megatron.device import machine
    from jobs.megatron.model import build, read_config

    records = some_records(24, seed=2)
    split = PackedRecords(written(tmp_path, records), 64, seed=1)
    samples = split.samples(range(rows))
    assert samples.segments is not None and samples.positions is not None
    with machine(Parallel(), 1) as device, torch.no_grad():
        config = read_config(teacher / "model")
        model = build(config, Parallel(), "fp32", device).eval()
        weights.load(model, teacher / "model", config)
        tokens = torch.from_numpy(samples.tokens[:, :-1])
        flat, places = tokens.reshape(1, -1), torch.from_numpy(samples.positions).reshape(1, -1)
        together = model(flat, places, None, packed_seq_params=pack_params(torch.from_numpy(samples.segments))).view(
            rows, 64, -1
        )
        for place in range(rows):
            for number, record in enumerate(split.rows[place]):
                ids = torch.tensor([records[record][0]])
                alone = model(ids, torch.arange(ids.shape[1])[None], None)
                here = torch.from_numpy(np.flatnonzero(samples.segments[place] == number))
                torch.testing.assert_close(together[place, here], alone[0], rtol=1e-6, atol=1e-6)
        # What the test would see if samples did leak: with ordinary causal attention they do.
        leaking = model(tokens[:1], torch.arange(64)[None], None)
        assert (leaking[0] - together[0]).abs().max() > 0.01
