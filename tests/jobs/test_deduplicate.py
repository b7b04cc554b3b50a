"""Documents that repeat another one are left out of a corpus and counted."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.data import ALL_TRAIN, SPLITS, prepare, statistics, texts

CHANCE = random.Random(5)
WORDS = [f"word{number}" for number in range(3000)]
PLAIN = [" ".join(CHANCE.choices(WORDS, k=200)) for _ in range(60)]
SHOUTED = PLAIN[3].upper() + "!"
CHANGED = " ".join([*PLAIN[7].split()[:40], "another", *PLAIN[7].split()[41:]])
WRITTEN = [*PLAIN, SHOUTED, CHANGED, PLAIN[3]]


def corpus(folder: Path, documents: list[str]) -> str:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return str(path)


@pytest.mark.parametrize(
    ("settings", "left_out", "same_words", "similar"),
    [
        ({}, [SHOUTED, CHANGED, PLAIN[3]], 2, 1),
        ({"min_jaccard": None}, [SHOUTED, PLAIN[3]], 2, 0),
        ({"min_jaccard": 0.99}, [SHOUTED, PLAIN[3]], 2, 0),
    ],
)
def test_repeats_are_left_out(
    settings: dict[str, Any], left_out: list[str], same_words: int, similar: int, words: Path, tmp_path: Path
) -> None:
    output = prepare(corpus(tmp_path, WRITTEN), words, tmp_path / "data", deduplicate=settings, **ALL_TRAIN)
    assert texts(output) == [text for number, text in enumerate(WRITTEN) if number < 60 or text not in left_out]
    found = statistics(output)
    assert found["deduplicated"]["same_words"] == same_words
    assert found["deduplicated"]["similar"] == similar
    assert found["documents"] == len(WRITTEN) - same_words - similar
    assert any(f"{same_words + similar} of 63 documents repeat another one" in note for note in found["notes"])


def test_what_was_left_out_is_listed_with_its_place(words: Path, tmp_path: Path) -> None:
    source = corpus(tmp_path, WRITTEN)
    output = prepare(source, words, tmp_path / "data", deduplicate={}, **ALL_TRAIN)
    rows = [json.loads(line) for line in (output / "duplicates.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"], row["same_words"]) for row in rows] == [
        (source, 61, True),
        (source, 62, False),
        (source, 63, True),
    ]
    assert [row["cluster"] for row in rows] == [3, 7, 3]
    assert rows[0]["text"] == SHOUTED[:200]
    assert statistics(output)["deduplicated"]["clusters"] == 2
    assert statistics(output)["deduplicated"]["largest_cluster"] == 3


def test_no_copy_of_a_held_out_document_is_learned(words: Path, tmp_path: Path) -> None:
    copies = [" ".join([*text.split()[:40], "other", *text.split()[41:]]) for text in PLAIN]
    output = prepare(
        corpus(tmp_path, [*PLAIN, *copies]),
        words,
        tmp_path / "data",
        deduplicate={},
        validation_share=0.2,
        test_share=0.2,
    )
    numbers = {text.split()[0]: number for number, text in enumerate(PLAIN)}
    by_split = {split: {numbers[text.split()[0]] for text in texts(output, split)} for split in SPLITS}
    assert sum(map(len, by_split.values())) == 60
    assert sum(statistics(output)["deduplicated"]["splits"].values()) == 60
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not by_split[one] & by_split[other]


def test_without_the_setting_repeats_stay(words: Path, tmp_path: Path) -> None:
    output = prepare(corpus(tmp_path, WRITTEN), words, tmp_path / "data", **ALL_TRAIN)
    assert len(texts(output)) == len(WRITTEN)
    assert statistics(output)["deduplicated"] is None
    assert not (output / "duplicates.jsonl").exists()
