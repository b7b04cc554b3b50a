"""The shards of a data stage are counted as the jobs make them, by names, sizes and the footers of Parquet files."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf import shards
from conf.shards import counted, row_groups, together
from conf.stages.data import DataConfig
from jobs.corpus import pieces
from jobs.corpus.sources import parts
from tests.fixtures.documents import answer, page, record

LINE = json.dumps({"text": "a line of text"}) + "\n"
SMALL = 1000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of all kinds, where a piece has 1,000 bytes or two files."""
    for module in (shards, pieces):
        monkeypatch.setattr(module, "PIECE_BYTES", SMALL)
        monkeypatch.setattr(module, "PIECE_FILES", 2)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.jsonl").write_text(LINE * 100)
    (corpus / "b.jsonl").write_text(LINE)
    (corpus / "c.jsonl.gz").write_bytes(
        gzip.compress(b"".join(json.dumps(os.urandom(9).hex()).encode() + b"\n" for _ in range(99)))
    )
    (corpus / "d.txt").write_text("a line of text\n" * 200)
    pq.write_table(pa.table({"text": [f"row {n} " * 9 for n in range(100)]}), corpus / "e.parquet", row_group_size=8)
    for number in range(3):
        (corpus / f"{number}.html").write_text(page(f"Sentence {number}."))
    (corpus / "w.warc").write_bytes(record(answer(page("A sentence." * 99).encode())))
    (corpus / "x.csv").write_text("text\n" + "a line of text\n" * 100)
    return corpus


@pytest.mark.parametrize(
    ("sizes", "most", "count", "runs"),
    [
        ([], 10, None, []),
        ([4], 10, None, [(0, 1)]),
        ([10, 9, 1, 30, 1], 10, None, [(0, 1), (1, 3), (3, 4), (4, 5)]),
        ([9, 9, 9], 10, None, [(0, 2), (2, 3)]),
        ([0] * 5, 10, 2, [(0, 2), (2, 4), (4, 5)]),
    ],
)
def test_runs_end_once_they_have_enough(sizes: list[int], most: int, count: int | None, runs: Any) -> None:
    assert together(sizes, most, count) == runs


@pytest.mark.parametrize("name", ["", "a.jsonl", "b.jsonl", "c.jsonl.gz", "d.txt", "e.parquet", "w.warc", "x.csv"])
def test_as_many_shards_are_told_as_are_made(name: str, folder: Path) -> None:
    config = DataConfig(source=str(folder / name))
    found = counted(config)
    assert found and found.count == len(parts(config, [], cut=True))
    assert found.files == (10 if not name else 1)
    assert (found.count > 1) == (name in ("", "a.jsonl", "d.txt", "e.parquet"))
    whole = {"c.jsonl.gz", "w.warc", "x.csv"}
    assert {path.name for path in found.whole} == (whole if not name else whole & {name})


def test_what_the_hub_has_is_not_known(folder: Path) -> None:
    assert counted(DataConfig(source=(str(folder), "some/dataset"))) is None
    world = counted(DataConfig(source="world"))
    assert world and (world.count, world.files) == (1, 0)


def test_row_groups_weigh_their_text_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    wide = [os.urandom(900).hex() for _ in range(20)]
    table = pa.table({"other": wide, "text": [f"row {n}" for n in range(20)]})
    pq.write_table(table, path, row_group_size=10, compression="none")
    assert len(row_groups(path, "text")) == 2 and all(100 < size < 900 for size in row_groups(path, "text"))
    assert all(size > 9000 for size in row_groups(path, "other"))
    assert row_groups(path, "no") == []
    path.write_bytes(b"PAR1")
    assert row_groups(path, "text") == []
