"""What ranks have made of the pieces of a corpus, put together in the order of its text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.stages.data import DataConfig
from jobs.corpus import merge as module
from jobs.corpus import pieces, shards
from jobs.corpus.curate import Curator, curate
from jobs.corpus.merge import Merge
from jobs.corpus.readers import Count
from jobs.corpus.splits import Splits
from jobs.curation.duplicates import signed

RULES = {"gopher": {"min_words": 2, "min_stop_words": None, "min_word_length": None, "min_alphabetic_words": None}}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Twenty documents in a file of several pieces, with a blank line and a bad one; four in another file."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 100)
    folder = tmp_path / "text"
    folder.mkdir()
    lines = [json.dumps({"text": f"document {number}"}) for number in range(20)]
    (folder / "a.jsonl").write_text("\n".join([*lines[:7], "", "[7]", *lines[7:]]) + "\n")
    (folder / "b.txt").write_text("one two\nthree\nfour five\nsix seven\n")
    settings = {"filter": RULES, "deduplicate": {}, "ranks": 2, "max_rejected_share": 1, "join": "line"}
    shares = {"validation_share": 0, "test_share": 0}
    return DataConfig.model_validate({"source": str(folder), **settings, **shares})


def made(config: DataConfig, output: Path) -> list[tuple[int, bool, dict[str, Any]]]:
    """What each rank says of its shards, in order."""
    told = []
    for rank in (1, 0):
        for number, count, new, counts in curate(config, output, rank, Curator(config, None), 1):
            assert number % 2 == rank and count > 4
            told.append((number, new, counts))
    return sorted(told, key=lambda one: one[0])


def read(merged: Merge, splits: Splits, count: Count) -> list[tuple[str, int, str | None]]:
    records = [record for part in merged.parts for record in part.read(count)]
    for record in records:
        if record.text is not None:
            splits.add("train", record, record.text)
    splits.close()
    return [(Path(record.file).name, record.line, record.text) for record in records]


def test_shards_are_read_as_the_files_they_are_of(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = made(config, tmp_path)
    assert all(new for _, new, _ in told) and sum(counts["records"] for *_, counts in told) == 25
    assert sum(counts["removed"] for *_, counts in told) == 1, "one word is too few"
    assert not any(new for _, new, _ in made(config, tmp_path)), "they are there"
    merged, count = Merge(config, tmp_path, []), Count()
    monkeypatch.setattr(module, "CHUNK", shards.SIGNED.itemsize)
    with Splits(tmp_path) as splits:
        records = read(merged, splits, count)
        numbered = [("a.jsonl", line, text) for line, text in enumerate(_texts(), 1) if text != ""]
        assert records == [*numbered, *(("b.txt", n, text) for n, text in enumerate(B, 1))]
        assert (count.lines, count.blank) == (26, 1)
        merged.assert_conserved(count, 25)
        judged = list(merged.judged("train", splits))
        assert [one.removed for one in judged] == [text == "three" for text in splits.texts("train")]
        splits.rewrite("train", judged)
        rows = list(merged.signatures(splits)("train"))
        assert [len(some) for some in rows] == [8, 8, 7], "a thousand bytes at a time"
        assert np.concatenate(rows).tobytes() == signed(list(splits.texts("train")), near=True).tobytes()


B = ["one two", "three", "four five", "six seven"]


def _texts() -> list[str | None]:
    texts = [f"document {number}" for number in range(20)]
    return [*texts[:7], "", None, *texts[7:]]


def test_what_is_lost_between_ranks_is_noticed(config: DataConfig, tmp_path: Path) -> None:
    made(config, tmp_path)
    merged, count = Merge(config, tmp_path, []), Count(lines=26, blank=1)
    merged.assert_conserved(count, 25)
    for lines, blank, records, told in (
        (25, 1, 25, "25 lines are merged, ranks have read 26"),
        (26, 2, 25, "2 blank are merged, ranks have read 1"),
        (26, 1, 24, "24 records are merged, ranks have read 25"),
    ):
        with pytest.raises(AssertionError, match=told):
            merged.assert_conserved(Count(lines=lines, blank=blank), records)
    shards.Shard(tmp_path / shards.FOLDER, 1).path(shards.COUNTS).unlink()
    with pytest.raises(RuntimeError, match=r"shard 2 of \d+ \(.*a.jsonl\) is missing; run the same again"):
        Merge(config, tmp_path, [])


def test_the_world_is_a_shard_without_files(tmp_path: Path) -> None:
    world = {"documents": 100, "entities": 8, "questions": 40}
    config = DataConfig.model_validate({"source": "world", "world": world, "ranks": 2, "deduplicate": {}})
    for rank in range(2):
        assert len(list(curate(config, tmp_path, rank, Curator(config, None), 1))) == 1 - rank
    (part,) = Merge(config, tmp_path, []).parts
    assert [(one.file, one.line) for one in part.read(Count())] == [("world", line) for line in range(1, 101)]
