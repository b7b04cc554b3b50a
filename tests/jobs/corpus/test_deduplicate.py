"""Documents by number over all splits, and what is counted of those that repeat another."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from conf.stages.data import Deduplicate
from jobs.corpus.deduplicate import Texts, deduplicate
from jobs.corpus.readers import Document
from jobs.corpus.splits import Splits

WORDS = [f"word{number}" for number in range(400)]
GIVEN: dict[str, list[str]] = {
    "train": ["a b", "A, b.", "c", "x " * 300, "X " * 300],
    "validation": ["c", "d"],
    "test": [],
}


def written(folder: Path, given: dict[str, list[str]]) -> Splits:
    """Open, as places are kept as long as the job runs."""
    splits = Splits(folder)
    splits.__enter__()
    for split, texts in given.items():
        for number, text in enumerate(texts, 1):
            splits.add(split, Document(f"{split}.txt", number, text, lines=number), text)
    splits.close()
    return splits


def test_documents_are_numbered_over_splits(tmp_path: Path) -> None:
    with ExitStack() as stack:
        texts = Texts(written(tmp_path, GIVEN), stack)
        assert (texts.count, texts.starts) == (7, {"test": 0, "validation": 0, "train": 2})
        assert [texts.of(number) for number in range(7)] == [*GIVEN["validation"], *GIVEN["train"]]


def left(folder: Path, given: dict[str, list[str]], **settings: Any) -> tuple[dict[str, Any], int, int, str]:
    found = deduplicate(Deduplicate.model_validate(settings), written(folder, given))
    return found.counts, found.documents, found.lines, found.sentence


def test_repeats_are_counted_by_kind_and_split(tmp_path: Path) -> None:
    counts, documents, lines, sentence = left(tmp_path, GIVEN)
    assert counts == {
        **{"same_words": 3, "similar": 0, "clusters": 3, "largest_cluster": 2},
        "splits": {"test": 0, "validation": 0, "train": 3},
    }
    assert (documents, lines) == (3, 2 + 3 + 5)
    assert sentence == "3 of 7 documents repeat another one and are left out: 3 with the same words, 0 similar"
    rows = [json.loads(line) for line in (tmp_path / "duplicates.jsonl").read_text().splitlines()]
    assert [(row["line"], row["cluster"], row["same_words"], len(row["text"])) for row in rows] == [
        *((2, 2, True, 5), (3, 0, True, 1), (5, 5, True, 200)),
    ]


def test_similar_documents_are_told_from_copies(tmp_path: Path) -> None:
    text = " ".join(WORDS)
    given = {"train": [text, text.upper(), f"{text} more", text], "validation": [], "test": [f"new {text}", "other"]}
    counts, documents, lines, _ = left(tmp_path, given)
    assert counts == {
        **{"same_words": 2, "similar": 2, "clusters": 1, "largest_cluster": 5},
        "splits": {"test": 0, "validation": 0, "train": 4},
    }
    assert (documents, lines) == (4, 10)


def test_without_repeats_there_is_no_cluster(tmp_path: Path) -> None:
    counts, documents, lines, _ = left(tmp_path, {"train": ["a", "b"], "validation": ["c"], "test": ["d"]})
    assert (counts["clusters"], counts["largest_cluster"], documents, lines) == (0, 0, 0, 0)
