"""Rows of Parquet and Arrow files: their numbers, those between row groups, and how many are held at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from jobs.corpus import columnar
from jobs.corpus.columnar import arrow, parquet
from jobs.corpus.lines import Fault

TEXTS = ["one", "two", "three", "four", "five"]
TABLE = pyarrow.table({"id": [1, 2, 3, 4, 5], "text": TEXTS})
NUMBERED = [(number, {"text": text}) for number, text in enumerate(TEXTS, 1)]


def as_parquet(folder: Path, table: pyarrow.Table = TABLE, rows: int = 2) -> Path:
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=rows)
    return folder / "a.parquet"


def as_arrow(folder: Path, kind: str, table: pyarrow.Table = TABLE, rows: int = 2) -> Path:
    begin = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
    with begin(str(folder / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return folder / "a.arrow"


def test_rows_of_parquet_are_numbered_over_row_groups(tmp_path: Path) -> None:
    path = as_parquet(tmp_path)
    assert list(parquet(path, "text", "data.text_field")) == NUMBERED
    assert list(parquet(path, None, ""))[4] == (5, {"id": 5, "text": "five"})
    assert list(parquet(path, "text", "", (1, 3))) == [
        (1, {"text": "three"}),
        (2, {"text": "four"}),
        (3, {"text": "five"}),
    ]
    assert list(parquet(path, "text", "", (0, 1))) == NUMBERED[:2]


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_rows_of_arrow_are_numbered_over_batches(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_arrow(tmp_path, kind, rows=3)
    assert list(arrow(path, "text", "")) == NUMBERED
    monkeypatch.setattr(columnar, "MOST_ROWS", 2)
    assert list(arrow(path, "text", "")) == NUMBERED
    assert list(arrow(path, None, ""))[3] == (4, {"id": 4, "text": "four"})


@pytest.mark.parametrize("kind", ["parquet", "file"])
def test_so_many_rows_are_held_as_their_text_allows(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred rows of about a thousand bytes."""
    held: list[int] = []
    values = columnar._values

    def watched(batch: Any, field: str | None) -> Any:
        held.append(len(batch))
        return values(batch, field)

    monkeypatch.setattr(columnar, "_values", watched)
    table = pyarrow.table({"text": [f"{number:04}" * 250 for number in range(100)]})
    path = as_parquet(tmp_path, table, 100) if kind == "parquet" else as_arrow(tmp_path, kind, table, 100)
    for allowed, rows, most in ((10_000, 10, 1024), (1, 1, 1024), (1 << 20, 7, 7)):
        monkeypatch.setattr(columnar, "BATCH_BYTES", allowed)
        monkeypatch.setattr(columnar, "MOST_ROWS", most)
        held.clear()
        assert len(list(parquet(path, "text", "") if kind == "parquet" else arrow(path, "text", ""))) == 100
        assert max(held) in (rows, max(1, rows - 1)) and sum(held) == 100, "the offsets of texts count as well"


def test_one_string_that_is_no_utf8_is_a_fault(tmp_path: Path) -> None:
    raw = pyarrow.array([b"one", b"caf\xe9", b"three"], pyarrow.binary()).view(pyarrow.string())
    path = as_arrow(tmp_path, "file", pyarrow.table({"id": [1, 2, 3], "text": raw}), 3)
    for field, good in (("text", {"text": "three"}), (None, {"id": 3, "text": "three"})):
        (_, bad), (number, last) = list(arrow(path, field, ""))[1:]
        assert isinstance(bad, Fault) and bad.reason.startswith("invalid UTF-8 (") and bad.excerpt == "b'caf\\xe9'"
        assert (number, last) == (3, good)


def test_a_damaged_page_costs_the_rows_that_are_left() -> None:
    def batches() -> Any:
        yield pyarrow.record_batch({"text": ["one", "two"]})
        raise OSError("checksum differs\nmore of it")

    rows = list(columnar._batches(batches(), 10, 4, "text"))
    damaged = Fault("a damaged page (checksum differs)")
    assert rows == [(11, {"text": "one"}), (12, {"text": "two"}), (13, damaged), (14, damaged)]


def test_what_cannot_be_read_is_told_with_its_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.parquet has columns id, text, but no 'body'; set data\.text_field"):
        list(parquet(as_parquet(tmp_path), "body", "data.text_field"))
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 3, names=["text", "other", "other"])
    assert list(parquet(as_parquet(tmp_path, twice), "text", "")) == [(1, {"text": "a"})]
    with pytest.raises(ValueError, match=r"a\.parquet has 2 columns called 'other'"):
        list(parquet(as_parquet(tmp_path, twice), None, ""))
    (tmp_path / "a.arrow").write_bytes(b"ARROW1 and no more")
    with pytest.raises(ValueError, match=r"a\.arrow is not a readable Arrow file \("):
        list(arrow(tmp_path / "a.arrow", "text", ""))
