"""Windows of a handmade stream of tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.windows import Windows, shuffled


def windows(folder: Path, tokens: int, seq_length: int) -> Windows:
    """Windows of the stream 0, 1, 2, ..."""
    with IndexedWriter(folder / "train", np.dtype(np.uint16)) as writer:
        writer.add(np.arange(tokens), np.array([tokens], np.int32))
    return Windows(folder / "train", seq_length)


@pytest.mark.parametrize(("tokens", "count"), [(4, 1), (6, 1), (7, 2), (9, 2), (10, 3)])
def test_each_window_needs_a_target_for_every_input(tmp_path: Path, tokens: int, count: int) -> None:
    assert len(windows(tmp_path, tokens, 3)) == count


def test_a_stream_shorter_than_a_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^the train split has 3 tokens, fewer than one sequence of 3 \+ 1; add text"):
        windows(tmp_path, 3, 3)


def test_windows_overlap_by_one_token(tmp_path: Path) -> None:
    split = windows(tmp_path, 10, 3)
    assert split.tokens_at(range(3)).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    samples = split.samples(np.array([2, 0]))
    assert samples.tokens.tolist() == [[6, 7, 8, 9], [0, 1, 2, 3]]
    assert samples.addresses.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert samples.tokens.dtype == np.int64


def test_the_first_are_at_most_all(tmp_path: Path) -> None:
    split = windows(tmp_path, 10, 3)
    assert split.first(2).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert len(split.first(4)) == 3


def test_every_pass_takes_each_once_in_a_new_order(tmp_path: Path) -> None:
    order = windows(tmp_path, 31, 3).shuffled(0, 30, 5).tolist()
    passes = [order[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3
    assert passes[1] == np.random.default_rng([5, 1]).permutation(10).tolist()


def test_any_position_continues_the_same_order() -> None:
    whole = shuffled(7, 0, 30, 5).tolist()
    for position in range(20):
        for count in range(1, 11):
            assert shuffled(7, position, count, 5).tolist() == whole[position : position + count]
    assert shuffled(7, 0, 7, 6).tolist() != whole[:7]
