"""Running the data job in a test and reading what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import tokenizer
from jobs.indexed import IndexedTokens
from tests.jobs_fixtures import run_job

SPLITS = ("train", "validation", "test")
TEXTS = [f"Document {number} says: {'abcdefg'[number % 7] * (number % 11 + 1)}, caf\u00e9 and all." for number in range(60)]
ALL_TRAIN = {"validation_share": 0, "test_share": 0}


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained tokenizer, so that jobs here need not train one."""
    directory = tmp_path_factory.mktemp("words")
    tokenizer.train(iter(TEXTS), 300, directory)
    return directory


def prepare(source: object, words: Path, output: Path, **config: object) -> Path:
    """Run the data job on a source; everything goes to training unless `config` says otherwise."""
    return run_job("data", {"source": source, **ALL_TRAIN, **config}, {"tokenizer": words}, output)


def texts(output: Path, split: str = "train") -> list[str]:
    """The documents of a split as its tokens say, each without its end-of-document id."""
    loaded, read = tokenizer.load(output / "tokenizer"), IndexedTokens(output / split)
    eod = tokenizer.eod_id(output / "tokenizer")
    documents, start = [], 0
    for length in read.lengths.tolist():
        ids = read.tokens[start : start + length].tolist()
        assert ids.count(eod) == 1
        assert ids.pop() == eod
        documents.append(loaded.decode(ids, skip_special_tokens=False))
        start += length
    return documents


def statistics(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "statistics.json").read_text())
    return found


def quarantine(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "quarantine.jsonl").read_text().splitlines()]


def conserved(output: Path) -> bool:
    """Whether every line read is a document's, blank, in quarantine or a repeat."""
    found = statistics(output)
    assert found["documents"] == sum(found["splits"][split]["documents"] for split in SPLITS)
    for split in SPLITS:
        assert found["splits"][split]["tokens"] == len(IndexedTokens(output / split).tokens)
    assert found["quarantined"] == len(quarantine(output))
    parts = found["blank"] + found["lines_in_documents"] + found["lines_quarantined"] + found["duplicates_across_splits"]
    return bool(parts == found["lines_read"])
