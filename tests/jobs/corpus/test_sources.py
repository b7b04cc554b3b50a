"""Which split a text falls into, and which files are read once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from conf.stages.data import DataConfig
from jobs.corpus.sources import parts, split_of

TEXTS = [f"text {number}" for number in range(4000)]


def config(**settings: object) -> DataConfig:
    return DataConfig.model_validate({"source": "x", "validation_share": 0.2, "test_share": 0.3} | settings)


def by_split(settings: DataConfig, *own: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for text in TEXTS:
        found[split_of(text, settings, frozenset(own))].add(text)
    return found


def test_splits_have_their_shares() -> None:
    sizes = {split: len(texts) for split, texts in by_split(config()).items()}
    for split, share in {"train": 0.5, "validation": 0.2, "test": 0.3}.items():
        assert sizes[split] == pytest.approx(4000 * share, abs=4 * (4000 * share * (1 - share)) ** 0.5)
    other = by_split(config(seed=2))
    assert len(other["test"] & by_split(config())["test"]) == pytest.approx(4000 * 0.09, abs=75), "drawn independently"


def test_a_split_of_the_sources_own_gets_nothing() -> None:
    every, own_test = by_split(config()), by_split(config(), "test")
    assert not own_test["test"] and not by_split(config(), "validation")["validation"]
    assert own_test == by_split(config(test_share=0.0))
    assert by_split(config(), "validation")["test"] == every["test"]
    assert len(by_split(config(), "test", "validation")["train"]) == 4000


def test_equal_files_are_read_once_and_five_are_named(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.txt").write_text("the same\n")
    (tmp_path / "other.txt").write_text("as long.\n")
    (tmp_path / "longer.txt").write_text("the same, but longer\n")
    notes: list[str] = []
    assert len(parts(config(source=str(tmp_path / "*.txt")), notes)) == 3
    assert len(notes) == 6 and all(
        "is the same text as" in note and "0.txt and is read once" in note for note in notes[:5]
    )
    assert notes[5] == "2 more are the same text as another one and are read once"
    for number in (6, 7):
        (tmp_path / f"{number}.txt").unlink()
    notes.clear()
    parts(config(source=str(tmp_path / "*.txt")), notes)
    assert Counter("more are" in note for note in notes) == {False: 5}
