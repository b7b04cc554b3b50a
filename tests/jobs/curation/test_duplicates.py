"""Which documents repeat others."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.curation import duplicates
from jobs.curation.duplicates import Duplicates, bands, jaccard, shingles, signed
from jobs.curation.words import words_of

WORDS = [f"word{number}" for number in range(4000)]


def document(seed: int, length: int = 120) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def changed(text: str, share: float, seed: int) -> str:
    chance = random.Random(seed)
    return " ".join("other" if chance.random() < share else word for word in text.split())


def clusters(texts: list[str], min_jaccard: float | None = 0.8) -> list[int]:
    found = Duplicates(texts.__getitem__, min_jaccard)
    for text in texts:
        found.add(text)
    return found.clusters().tolist()


def exact(left: str, right: str) -> float:
    """Jaccard of the sets of five-word runs, written out."""
    a, b = (
        {tuple(words[i : i + 5]) for i in range(len(words) - 4)}
        for words in (left.lower().split(), right.lower().split())
    )
    return len(a & b) / len(a | b)


def test_different_documents_stay() -> None:
    assert clusters([document(seed) for seed in range(30)]) == list(range(30))


def test_copies_point_to_the_first() -> None:
    a, b = document(1), document(2)
    assert clusters([a, b, a, b, a]) == [0, 1, 0, 1, 0]


def test_case_and_punctuation_make_no_difference() -> None:
    text = document(1)
    assert clusters([text, text.upper().replace(" ", ", ") + "!"], None) == [0, 0]


def test_without_words_the_text_counts() -> None:
    assert clusters(["***", "---", "***"]) == [0, 1, 0]


def test_texts_of_few_words_are_compared_whole() -> None:
    assert clusters(["one two", "One, two.", "one three", ""]) == [0, 0, 2, 3]


@pytest.mark.parametrize(("bound", "merged"), [(-1e-9, True), (1e-9, False)])
def test_the_bound_is_of_the_exact_jaccard_index(bound: float, merged: bool) -> None:
    left, right = document(1), changed(document(1), 0.02, 3)
    similarity = exact(left, right)
    assert 0.7 < similarity < 1
    assert clusters([left, right], similarity + bound) == ([0, 0] if merged else [0, 1])


def test_near_copies_are_left_alone_unless_asked_for() -> None:
    assert clusters([document(1), changed(document(1), 0.02, 3)], None) == [0, 1]


def test_a_chain_is_one_cluster() -> None:
    words = document(1, 200).split()
    texts = [" ".join(words[start : start + 160]) for start in (0, 8, 16)]
    assert exact(texts[0], texts[2]) < 0.85 <= exact(texts[0], texts[1])
    assert clusters(texts, 0.85) == [0, 0, 0]


@given(st.lists(st.integers(0, 60), max_size=40), st.lists(st.integers(0, 60), max_size=40))
def test_jaccard_is_that_of_sets(left: list[int], right: list[int]) -> None:
    a, b = set(left), set(right)
    expected = len(a & b) / len(a | b) if a | b else 1
    assert jaccard(np.array(sorted(a), np.uint64), np.array(sorted(b), np.uint64)) == pytest.approx(expected)


def test_signatures_agree_as_often_as_sets() -> None:
    left, right = document(1, 400), changed(document(1, 400), 0.03, 2)
    signatures = []
    for text in (left, right):
        mixed = shingles(words_of(text))[:, None] * duplicates.FACTORS + duplicates.SHIFTS
        signatures.append((mixed ^ (mixed >> np.uint64(32))).min(axis=0))
    agreement, similarity = np.mean(signatures[0] == signatures[1]), exact(left, right)
    assert agreement == pytest.approx(similarity, abs=4 * (similarity * (1 - similarity) / 112) ** 0.5)


def test_signatures_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [words_of(document(seed, length)) for seed, length in enumerate((3000, 3, 5, 1, 80, 4, 200))]
    together = bands(documents)
    monkeypatch.setattr(duplicates, "PART", 100)
    assert together.tolist() == [bands([words]).tolist()[0] for words in documents]
    assert together.shape == (7, duplicates.BANDS)
    assert len(np.unique(together)) == together.size


def test_the_share_found_at_two_similarities() -> None:
    rng = random.Random(4)
    for share, low in ((0.004, 0.99), (0.02, 0.9)):
        texts = [document(seed, 150) for seed in range(150)]
        near = [changed(text, share, rng.randrange(1 << 30)) for text in texts]
        wanted = [number for number, (a, b) in enumerate(zip(texts, near, strict=True)) if exact(a, b) >= 0.8]
        found = clusters(texts + near)
        assert sum(found[150 + number] == number for number in wanted) >= low * len(wanted)


@pytest.mark.parametrize("at_once", [1, 3, 5, 9, 99])
def test_equal_entries_are_found_once_in_any_parts(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order of the entries, and of the documents in each group; only among those that are chosen."""
    monkeypatch.setattr(duplicates, "SORTED", at_once)
    monkeypatch.setattr(duplicates, "CHUNK", 2)
    largest = (1 << 64) - 1
    entries = [largest, 7, 1 << 63, 7, 5, largest, 1 << 63, 7, 1 << 62]
    (tmp_path / "entries").write_bytes(np.array(entries, "<u8").tobytes())
    chosen = np.array([True, True, True, False, True, True, True, True, True])
    with (tmp_path / "entries").open("rb") as file:
        groups = [group.tolist() for group in duplicates._equal(file, np.dtype("<u8"), None)]
        of_chosen = [group.tolist() for group in duplicates._equal(file, np.dtype("<u8"), chosen)]
    assert groups == [[1, 3, 7], [2, 6], [0, 5]] and of_chosen == [[1, 7], [2, 6], [0, 5]]


@pytest.mark.parametrize("at_once", [1, 7, 42])
def test_sorting_in_parts_changes_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [document(seed % 25) for seed in range(60)] + [changed(document(seed), 0.02, seed) for seed in range(20)]
    texts += ["***", "***", ""]
    whole = [clusters(texts), clusters(texts, None)]
    assert len(set(whole[0])) == 36 and len(set(whole[1])) == 46 and whole[1][25] == 0
    monkeypatch.setattr(duplicates, "SORTED", at_once)
    monkeypatch.setattr(duplicates, "CHUNK", 9)
    monkeypatch.setattr(duplicates, "KNOWN_RUNS", 300)
    assert [clusters(texts), clusters(texts, None)] == whole


def test_copies_are_told_from_similar_documents() -> None:
    texts = [document(1), document(1).upper(), document(1).replace(" ", " other ", 1), "***", "***"]
    found = Duplicates(texts.__getitem__, 0.8)
    for text in texts:
        found.add(text)
    assert found.clusters().tolist() == [0, 0, 0, 3, 3]
    assert found.copies.tolist() == [False, True, False, False, True]


def test_what_was_signed_elsewhere_counts_the_same(tmp_path: Path) -> None:
    texts = [document(seed % 7) for seed in range(20)] + ["", "***", "one two"]
    found = Duplicates(texts.__getitem__, 0.8, tmp_path)
    for start in (0, 5, 6):
        found.add_signed(signed(texts[start : {0: 5, 5: 6, 6: 23}[start]], near=True))
    assert found.clusters().tolist() == clusters(texts)
    assert list(tmp_path.iterdir()) == [], "its files have no names"
    rows = signed(["one two", "***"], near=True)
    assert rows["words"].tolist() == [True, False] and rows["bands"][0].any() and not rows["bands"][1].any()
    assert not signed(["one two"], near=False)["words"].any()


def test_known_repeats_of_reuters(shared_data: Path) -> None:
    with gzip.open(shared_data / "text/reuters/reuters_training.jsonl.gz", "rt", encoding="utf-8") as stream:
        texts = [json.loads(line)["text"] for line in stream]
    found = clusters(texts, None)
    assert sum(first != number for number, first in enumerate(found)) == 112


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("A small fox jumps over the lazy dog, and the dog sleeps on.", "a7924c93e9e76f2f"),
        ("Three words only", "6b464b4d95900c5c"),
    ],
)
def test_signatures_never_change(text: str, pinned: str) -> None:
    """Pinned, as they decide which pairs are compared at all: with other constants, the same recipe would remove other
    documents after an update, under the same artifact key."""
    signature = bands([words_of(text)])[0]
    assert hashlib.blake2b(signature.astype("<u8").tobytes(), digest_size=8).hexdigest() == pinned
