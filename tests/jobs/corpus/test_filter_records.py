"""Records pass the filters one by one, and those that go are counted by split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.stages.records import RecordsConfig
from jobs.corpus.conversations import Conversation
from jobs.corpus.filter_records import RecordFilter

GOPHER = dict.fromkeys(("min_stop_words", "min_word_length", "min_alphabetic_words", "max_word_length"))


def filtering(words: int, **settings: Any) -> RecordFilter:
    shares = {"validation_share": 0, "test_share": 0, "pii": {}}
    rules = {"gopher": GOPHER | {"min_words": words}}
    return RecordFilter(RecordsConfig.model_validate({"source": "x", "filter": rules} | shares | settings))


def record(line: int, prompt: str, split: str | None = None) -> Conversation:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": "yes"}]
    return Conversation("a.jsonl", line, messages, lines=line, split=split)


GIVEN = [
    record(1, "one two"),
    Conversation("a.jsonl", 2, None, "bad"),
    record(3, "one"),
    record(4, "mail ann@example.org", "test"),
    record(5, "one", "test"),
]


def test_what_is_removed_is_counted_and_the_rest_is_marked(tmp_path: Path) -> None:
    filters = filtering(3)
    left = list(filters.of(iter(GIVEN)))
    assert [one.line for one in left] == [1, 2, 4] and left[1] is GIVEN[1]
    assert left[2].messages and left[2].messages[0]["content"] == "mail <EMAIL>"
    filters.end(tmp_path)
    assert (filters.found.read, filters.found.removed, filters.found.lines) == (4, 2, 3 + 5)
    assert filters.found.counts()["splits"] == {"train": 1, "validation": 0, "test": 1}
    rows = [json.loads(line) for line in (tmp_path / "filtered.jsonl").read_text().splitlines()]
    assert [(row["line"], row["split"], row["rule"]) for row in rows] == [
        (3, "train", "gopher.min_words"),
        (5, "test", "gopher.min_words"),
        (4, "test", "pii.emails"),
    ]


def test_a_split_that_loses_every_record_is_told(tmp_path: Path) -> None:
    filters = filtering(3)
    assert len(list(filters.of(iter(GIVEN[:3] + GIVEN[4:])))) == 2
    with pytest.raises(ValueError, match=r"records.filter removes all 1 records of the test split; gopher.min_words 3"):
        filters.end(tmp_path)


def test_a_record_that_is_lost_is_noticed(tmp_path: Path) -> None:
    filters = filtering(3)
    found = filters.of(iter(GIVEN))
    next(found)
    filters.end(tmp_path)
    filters.found.removed += 1
    with pytest.raises(AssertionError, match="filter was given 1 records, removed 1 and left 1"):
        filters.end(tmp_path)
