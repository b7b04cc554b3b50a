"""Blends of handmade corpora: the proportions, the order, and where each token comes from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.tokens.blend_reader import Blended, sample_split, splits, training_split
from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.windows import Windows


def blend(folder: Path, sizes: list[int], weights: list[float], stages: list[dict[str, Any]] | None = None) -> Blended:
    """Corpus i holds the tokens 100 i, 100 i + 1, ...; sequences of 2."""
    sources = []
    for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        corpus = folder / f"c{number}"
        corpus.mkdir(parents=True)
        with IndexedWriter(corpus / "train", np.dtype(np.uint16)) as writer:
            writer.add(np.arange(size) + 100 * number, np.array([size], np.int32))
        sources.append({"name": f"c{number}", "weight": weight, "path": f"../c{number}"})
    (folder / "blend").mkdir()
    (folder / "blend" / "blend.json").write_text(
        json.dumps({"sources": sources} | ({"stages": stages} if stages else {}))
    )
    return Blended(folder / "blend", 2, 40)


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


TWO = [{"until": 0.25, "weights": {"c0": 1.0}}, {"until": 1.0, "weights": {"c0": 0.5, "c1": 0.5}}]
TOKENS = [stage | {"until": until} for stage, until in zip(TWO, (21, 80), strict=True)]
"""Of 40 sequences of 2; the first ends after 10.5 of them."""


def corpora(parts: Blended, indices: Any) -> list[int]:
    return [int(row[0]) // 100 for row in parts.tokens_at(indices)]


def test_the_mix_changes_at_the_edge_of_this_training(tmp_path: Path) -> None:
    parts = blend(tmp_path, [61, 61], [0.625, 0.375], TWO)
    found = corpora(parts, parts.shuffled(0, 40, 5))
    assert found[:10] == [0] * 10 and sorted(found[10:12]) == [0, 1] and sum(found) == 15
    shorter = Blended(tmp_path / "blend", 2, 8)
    assert corpora(shorter, shorter.shuffled(0, 8, 5))[:3] == [0, 0, 0], "2 of 8, then 1 of 2"
    assert sum(corpora(shorter, shorter.shuffled(0, 8, 5))) == 3
    for position in range(36):
        assert parts.shuffled(position, 4, 5).tolist() == parts.shuffled(0, 40, 5)[position : position + 4].tolist()


def test_bounds_by_tokens_are_the_same_in_every_training(tmp_path: Path) -> None:
    longest = blend(tmp_path, [61, 61], [0.6, 0.4], TOKENS)
    order = longest.shuffled(0, 40, 5)
    assert 1 not in corpora(longest, order[:11]) and 1 in corpora(longest, order[11:13])
    for sequences in (1, 11, 12, 40):
        assert (
            Blended(tmp_path / "blend", 2, sequences).shuffled(0, sequences, 5).tolist() == order[:sequences].tolist()
        )


def test_no_window_comes_twice_before_all_have_come(tmp_path: Path) -> None:
    """25 of the 30 windows of the first corpus and 15 of the second's, over both stages."""
    parts = blend(tmp_path, [61, 61], [0.625, 0.375], TWO)
    found = parts.shuffled(0, 40, 5).tolist()
    assert len(set(found)) == 40
    small = blend(tmp_path / "small", [21, 61], [0.625, 0.375], TWO)  # 10 windows
    own = [index for index in small.shuffled(0, 40, 5).tolist() if index < 10]
    assert [sorted(own[start : start + 10]) for start in (0, 10)] == [list(range(10))] * 2 and len(own) == 25


def test_a_stage_says_what_it_reads(tmp_path: Path) -> None:
    assert blend(tmp_path, [61, 21], [0.625, 0.375], TWO).told() == [
        "stage 1 of the blend, to sequence 10: c0 10 (0.33 passes so far)",
        "stage 2 of the blend, to sequence 40: c0 15 (0.83 passes so far), c1 15 (1.50 passes so far)",
    ]
    assert blend(tmp_path / "plain", [61, 21], [0.5, 0.5]).told() == []
    assert len(blend(tmp_path / "tokens", [61, 21], [0.5, 0.5], TOKENS).told()) == 2
    assert len(Blended(tmp_path / "tokens" / "blend", 2, 11).told()) == 1, "the second is not reached"


def test_training_prints_its_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = blend(tmp_path, [61, 61], [0.6, 0.4], TWO)
    training_split(tmp_path / "blend", 2, 40)
    assert capsys.readouterr().out.splitlines() == parts.told()
    sample_split(tmp_path / "blend", 2, 40)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("stages", [TWO, TOKENS], ids=["shares", "tokens"])
def test_samples_are_of_the_whole_mix(stages: list[dict[str, Any]], tmp_path: Path) -> None:
    """Of 8, 2 in the first stage: of the tokens' 21 of 80, 2.1."""
    blend(tmp_path, [61, 61], [0.6, 0.4], stages)
    samples = sample_split(tmp_path / "blend", 2, 8)
    assert [row[0] for row in samples.first(8).tolist()] == [0, 2, 4, 100, 6, 102, 8, 104]
    assert corpora(samples, samples.shuffled(0, 8, 0)) == [0, 0, 0, 1, 0, 1, 0, 1]  # type: ignore[arg-type]
    assert len(samples.first(100)) == 60, "no more than there are"
    assert isinstance(sample_split(tmp_path / "c1", 2, 8), Windows)


@pytest.mark.parametrize("stages", [TWO, TOKENS], ids=["shares", "tokens"])
def test_spare_sequences_follow_in_the_last_mix(stages: list[dict[str, Any]], tmp_path: Path) -> None:
    """Of a training of 20, with 15 to spare: the bounds and what comes before them are those without."""
    plain = blend(tmp_path, [61, 61], [0.6, 0.4], stages)
    before, after = (Blended(tmp_path / "blend", 2, 20, spare=spare) for spare in (0, 15))
    assert after.shuffled(0, 20, 5).tolist() == before.shuffled(0, 20, 5).tolist()
    assert sorted(corpora(after, after.shuffled(20, 15, 5))) == [0] * 7 + [1] * 8
    assert len(set(after.shuffled(0, 35, 5).tolist())) == 35
    if stages is TOKENS:
        assert after.shuffled(0, 35, 5).tolist() == plain.shuffled(0, 35, 5).tolist()
    assert after.told() == before.told() != []
    with pytest.raises(ValueError, match="opened for a training of 35 sequences, but sequence 36 is read"):
        after.shuffled(20, 16, 5)
    assert training_split(tmp_path / "blend", 2, 20, spare=15).shuffled(34, 1, 5) == after.shuffled(34, 1, 5)


def test_a_stage_that_is_reached_by_spare_ones_alone(tmp_path: Path) -> None:
    blend(tmp_path, [61, 61], [0.6, 0.4], [TOKENS[0], {"until": 80, "weights": {"c1": 1.0}}])
    parts = Blended(tmp_path / "blend", 2, 8, spare=6)
    assert corpora(parts, parts.shuffled(0, 14, 5)) == [0] * 11 + [1] * 3
