"""The documents of each split as files: their counts and places after documents are changed and taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.stages.data import DataConfig
from jobs.corpus import splits as module
from jobs.corpus.readers import Document
from jobs.corpus.splits import Splits, check_splits
from jobs.curation.leaks import Cleared

TEXTS = ["one", "caf\u00e9", "three", "four"]


def written(folder: Path) -> Splits:
    """Four documents for training and one for testing, of two files and with 1, 2, 3, 4 lines."""
    with Splits(folder) as splits:
        for number, text in enumerate(TEXTS):
            splits.add("train", Document(f"{number % 2}.txt", 10 * number + 1, text, lines=number + 1), text)
        splits.add("test", Document("2.txt", 5, "five", lines=1), "five")
        splits.close()
        places = {split: list(splits.places(split)) for split in ("train", "test", "validation")}
    assert places["train"] == [("0.txt", 1, 1), ("1.txt", 11, 2), ("0.txt", 21, 3), ("1.txt", 31, 4)]
    assert places["test"] == [("2.txt", 5, 1)] and places["validation"] == []
    assert not list(folder.glob(".*.places")), "places are kept as long as the job runs"
    return splits


def counts(splits: Splits, split: str = "train") -> tuple[int, int, int]:
    return splits.documents[split], splits.bytes[split], splits.lines[split]


def test_documents_bytes_and_lines_are_counted(tmp_path: Path) -> None:
    splits = written(tmp_path)
    assert counts(splits) == (4, 3 + 5 + 5 + 4, 1 + 2 + 3 + 4)
    assert counts(splits, "test") == (1, 4, 1) and counts(splits, "validation") == (0, 0, 0)
    assert list(splits.texts("train")) == TEXTS


def test_small_batches_give_the_same_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = written(tmp_path)
    monkeypatch.setattr(module, "BATCH_BYTES", 1)
    assert [len(batch) for batch in splits.batches("train")] == [1, 1, 1, 1]
    assert list(splits.texts("train")) == TEXTS


def open_again(folder: Path) -> Splits:
    splits = Splits(folder)
    splits.__enter__()
    for number, text in enumerate(TEXTS):
        splits.add("train", Document(f"{number % 2}.txt", 10 * number + 1, text, lines=number + 1), text)
    splits.close()
    return splits


def test_verdicts_remove_and_change_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACES", 2)
    splits = open_again(tmp_path)
    verdicts = [Cleared(False, None, 3), Cleared(True, None, 0), Cleared(False, "drei", 4), Cleared(False, None, 4)]
    splits.rewrite("train", verdicts)
    assert list(splits.texts("train")) == ["one", "drei", "four"]
    assert counts(splits) == (3, 3 + 4 + 4, 1 + 3 + 4)
    assert list(splits.places("train")) == [("0.txt", 1, 1), ("0.txt", 21, 3), ("1.txt", 31, 4)]


def test_documents_that_are_dropped_keep_their_places(tmp_path: Path) -> None:
    splits = open_again(tmp_path)
    assert list(splits.drop("train", set())) == []
    dropped = splits.drop("train", {3, 1})
    assert [(one.file, one.line, one.text, one.lines) for one in dropped] == [
        ("1.txt", 11, TEXTS[1], 2),
        ("1.txt", 31, "four", 4),
    ]
    assert list(splits.texts("train")) == ["one", "three"]
    assert counts(splits) == (2, 3 + 5, 1 + 3)
    assert list(splits.places("train")) == [("0.txt", 1, 1), ("0.txt", 21, 3)]


def test_a_split_is_replaced_as_a_whole(tmp_path: Path) -> None:
    splits = open_again(tmp_path)
    splits.replace("train", [Document("9.txt", 7, "new", lines=2)])
    assert counts(splits) == (1, 3, 2) and list(splits.texts("train")) == ["new"]
    assert list(splits.places("train")) == [("9.txt", 7, 2)]


def test_each_split_that_is_asked_for_needs_a_document() -> None:
    config = DataConfig.model_validate({"source": "x", "validation_share": 0.1, "test_share": 0.0})
    check_splits({"train": 1, "validation": 1, "test": 0}, config, "document")
    for kept, told in (
        ((0, 0, 0), "data.source x has no documents; check data.source"),
        ((5, 0, 0), "none of 5 documents fell into the validation split of 10%; raise data.validation_share"),
        ((0, 2, 1), "none of 3 documents are left for training"),
    ):
        with pytest.raises(ValueError, match=told):
            check_splits(dict(zip(("train", "validation", "test"), kept, strict=True)), config, "document")
    config = config.model_copy(update={"validation_share": 0.0, "test_share": 0.2})
    with pytest.raises(ValueError, match=r"fell into the test split of 20%; raise data.test_share"):
        check_splits({"train": 3, "validation": 1, "test": 0}, config, "document")
