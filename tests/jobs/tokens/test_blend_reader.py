"""Blends of handmade corpora: the proportions, the order, and where each token comes from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jobs.tokens.blend_reader import Blended, splits, training_split
from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.windows import Windows


def blend(folder: Path, sizes: list[int], weights: list[float]) -> Blended:
    """Corpus i holds the tokens 100 i, 100 i + 1, ...; sequences of 2."""
    sources = []
    for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        corpus = folder / f"c{number}"
        corpus.mkdir()
        with IndexedWriter(corpus / "train", np.dtype(np.uint16)) as writer:
            writer.add(np.arange(size) + 100 * number, np.array([size], np.int32))
        sources.append({"name": f"c{number}", "weight": weight, "path": f"../c{number}"})
    (folder / "blend").mkdir()
    (folder / "blend" / "blend.json").write_text(json.dumps({"sources": sources}))
    return Blended(folder / "blend", 2, 1000)


def by_time(weights: list[float], count: int) -> list[list[int]]:
    """Corpus and number of the first samples, sorted one by one."""
    times = [((k + 0.5) / w, number, k) for number, w in enumerate(weights) for k in range(count + 1)]
    return [[number, k] for _, number, k in sorted(times)[:count]]


def test_windows_run_through_the_corpora(tmp_path: Path) -> None:
    parts = blend(tmp_path, [5, 8], [0.5, 0.5])  # 2 and 3 windows
    assert len(parts) == 5
    samples = parts.samples(np.array([4, 0, 2, 1]))
    assert samples.tokens.tolist() == [[104, 105, 106], [0, 1, 2], [100, 101, 102], [2, 3, 4]]
    assert samples.addresses.tolist() == [[9, 10], [0, 1], [5, 6], [2, 3]]
    assert parts.tokens_at(range(2)).tolist() == [[0, 1, 2], [2, 3, 4]]


@pytest.mark.parametrize("weights", [[0.75, 0.25], [0.5, 0.5], [0.2, 0.5, 0.3], [1.0], [0.9, 0.1]])
def test_samples_are_ordered_by_time(tmp_path: Path, weights: list[float]) -> None:
    parts = blend(tmp_path, [5] * len(weights), weights)
    whole = by_time(weights, 60)
    for position in range(45):
        for count in (1, 2, 7, 15):
            assert parts.mix.order(position, count).tolist() == whole[position : position + count], position


def test_calibration_takes_the_proportions(tmp_path: Path) -> None:
    parts = blend(tmp_path, [9, 9], [0.75, 0.25])  # 4 windows each
    assert [row[0] for row in parts.first(4).tolist()] == [2 * k + 100 * c for c, k in by_time([0.75, 0.25], 4)]
    assert len(parts.first(100)) == 8


def test_each_corpus_is_shuffled_by_itself(tmp_path: Path) -> None:
    parts = blend(tmp_path, [9, 7], [0.5, 0.5])  # 4 and 3 windows
    found = parts.shuffled(0, 24, 5)
    own, other = [int(i) for i in found if i < 4], [int(i) - 4 for i in found if i >= 4]
    assert own == [int(i) for e in range(3) for i in np.random.default_rng([5, e]).permutation(4)]
    assert other == [int(i) for e in range(4) for i in np.random.default_rng([6, e]).permutation(3)]
    for position in range(20):
        assert parts.shuffled(position, 3, 5).tolist() == found[position : position + 3].tolist()


def test_a_corpus_that_is_gone_is_named(tmp_path: Path) -> None:
    blend(tmp_path, [5], [1.0])
    (tmp_path / "c0" / "train.bin").unlink()
    with pytest.raises(ValueError, match=r"reads the corpus c0 from .*c0, which does not exist; run the recipe again"):
        training_split(tmp_path / "blend", 2, 9)


def test_a_corpus_and_a_blend_are_told_apart(tmp_path: Path) -> None:
    blend(tmp_path, [5, 8], [0.5, 0.5])
    assert isinstance(training_split(tmp_path / "blend", 2, 9), Blended)
    assert isinstance(training_split(tmp_path / "c1", 2, 9), Windows)
    for suffix in (".bin", ".idx"):
        shutil.copyfile(tmp_path / f"c0/train{suffix}", tmp_path / f"c1/validation{suffix}")
    training, validation = splits(tmp_path / "c1", 2, 9)
    assert [len(training), len(validation)] == [3, 2]
