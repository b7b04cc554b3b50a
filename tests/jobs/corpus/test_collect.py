"""Which split each document is in, and what is counted of those that are in none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.stages.data import DataConfig
from jobs.corpus.collect import Collected, collect
from jobs.corpus.quarantine import Quarantine
from jobs.corpus.splits import Splits

SPLITS = ("train", "validation", "test")


def collected(folder: Path, given: dict[str, list[Any]], **settings: Any) -> tuple[Collected, dict[str, list[str]]]:
    """Texts by file, as lines of JSON; a number is a bad record."""
    source = folder / "source"
    source.mkdir()
    for name, texts in given.items():
        (source / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    shares = {"validation_share": 0, "test_share": 0, "max_rejected_share": 1}
    config = DataConfig.model_validate({"source": str(source), "join": "line", **shares, **settings})
    with Splits(folder) as splits, Quarantine(folder / "q.jsonl", 1) as quarantine:
        found = collect(config, splits, quarantine, [])
        assert quarantine.lines == sum(not isinstance(text, str) for texts in given.values() for text in texts)
        return found, {split: list(splits.texts(split)) for split in SPLITS}


def test_a_text_is_in_one_split_and_training_text_goes_first(tmp_path: Path) -> None:
    given = {
        "validation": ["a", "b", "b", "c", "d"],
        "test": ["e", "a", "f", 7, "e"],
        "train": ["g", "c", "g", "f", "f"],
    }
    found, texts = collected(tmp_path, given)
    assert texts == {"train": ["g", "c", "g", "f", "f"], "validation": ["a", "b", "b", "d"], "test": ["e", "e"]}
    assert (found.repeats, found.repeated_lines, found.records) == (3, 3, 15), "a of the test split, c and f"
    assert found.notes == ["the source's own splits are kept: train, validation, test"]


def test_a_limit_is_of_training_text_and_of_each_held_out_split(tmp_path: Path) -> None:
    given = {"train": ["a", 7, "b", "c"], "test": ["d", "e", "f", "g"]}
    found, texts = collected(tmp_path, given, max_documents=3)
    assert texts == {"train": ["a", "b"], "validation": [], "test": ["d", "e", "f"]} and found.records == 6
    assert found.notes == ["the source's own splits are kept: train, test"], "no validation split was asked for"


def test_a_limit_goes_on_over_files(tmp_path: Path) -> None:
    found, texts = collected(tmp_path, {"one": ["a", "b"], "two": ["c", "d"]}, max_documents=3)
    assert texts["train"] == ["a", "b", "c"] and (found.records, found.repeats, found.notes) == (3, 0, [])


def test_a_split_that_is_missing_is_told(tmp_path: Path) -> None:
    given = {"train": [f"text {number}" for number in range(40)], "test": ["x"]}
    found, texts = collected(tmp_path, given, validation_share=0.25)
    number = len(texts["validation"])
    assert found.notes == [
        "the source's own splits are kept: train, test",
        f"there is no validation split: 25% of the training text by content, {number} documents, are it",
    ]
    assert 0 < number < 40 and texts["test"] == ["x"]


@pytest.mark.parametrize("repair", [True, False])
def test_wrongly_decoded_characters_are_repaired_if_asked(repair: bool, tmp_path: Path) -> None:
    found, texts = collected(tmp_path, {"one": ["don\u00e2\u20ac\u2122t", "fine", 7]}, repair=repair)
    assert texts["train"] == (["don\u2019t", "fine"] if repair else ["don\u00e2\u20ac\u2122t", "fine"])
    assert found.count.repaired == int(repair)


def test_texts_that_marks_make_equal_are_in_one_split(tmp_path: Path) -> None:
    """Two splits have q as it is, and what is left is deduplicated: each step is given what those before it left."""
    given = {
        "train": ["ask ann@example.org", "x"],
        "validation": ["ask bob@example.org", "y bob@example.org", "z", "q"],
        "test": ["y eve@example.org", "w", "q", "w"],
    }
    found, texts = collected(tmp_path, given, pii={}, deduplicate={"min_jaccard": None})
    assert texts == {"train": ["ask <EMAIL>", "x"], "validation": ["z", "q"], "test": ["y <EMAIL>", "w"]}
    assert (found.repeats, found.repeated_lines) == (3, 3)
    assert found.filtered is not None and (found.filtered.read, found.filtered.removed) == (9, 0)
    assert found.deduplicated is not None and found.deduplicated.documents == 1
    assert (found.decontaminated, found.planted) == (None, None)
