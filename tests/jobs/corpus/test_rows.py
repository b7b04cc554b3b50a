"""The rows of a file by its format, with their numbers; what is wrong with one is said in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from jobs.corpus.lines import BLANK, Fault
from jobs.corpus.rows import rows


def read(path: Path, kind: str, content: str = "", **settings: Any) -> list[tuple[int, Any]]:
    if content:
        path.write_text(content)
    return list(rows(path, kind, **{"limit": 60} | settings))


def test_every_format_has_its_reader(tmp_path: Path) -> None:
    expected = [(number, {"text": text}) for number, text in enumerate("ab", 1)]
    path, table = tmp_path / "a", pyarrow.table({"text": ["a", "b"]})
    assert read(path, "jsonl", '{"text": "a"}\n{"text": "b"}') == expected
    assert read(path, "json", '[{"text": "a"}, {"text": "b"}]') == expected
    assert read(path, "json", '{"text": "a"}') == expected[:1]
    assert [(at - 1, row) for at, row in read(path, "csv", "text\na\nb\n")] == expected, "after the names"
    assert [(at - 1, row) for at, row in read(path, "tsv", "text\na\nb\n", field="text")] == expected
    assert read(path, "tsv", "text\tn\na\t1\n") == [(2, {"text": "a", "n": "1"})]
    pyarrow.parquet.write_table(table, path)
    assert read(path, "parquet") == expected
    with pyarrow.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    assert read(path, "arrow") == expected


def test_lines_that_hold_no_row_say_why(tmp_path: Path) -> None:
    lines = ['{"text": 1}', " ", "{broken", json.dumps({"text": "x" * 60}), '{"a": NaN}']
    found = read(tmp_path / "a", "jsonl", "\n".join(lines))
    assert found[:2] == [(1, {"text": 1}), (2, BLANK)]
    assert found[2][1].reason.startswith("bad JSON (") and "{broken" in found[2][1].excerpt
    assert found[3] == (4, Fault("a line longer than 60 bytes"))
    assert found[4][0] == 5 and str(found[4][1]) == "{'a': nan}", "as a whole .json is read"


@pytest.mark.parametrize(("field", "faulty"), [(None, [1, 2]), ("text", [1]), ("id", [2])])
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_a_key_that_stands_twice_is_told_where_it_is_read(
    kind: str, field: str | None, faulty: list[int], tmp_path: Path
) -> None:
    lines = ['{"text": 1, "id": 1, "text": 2}', '{"id": 1, "id": 2, "text": 3}', '{"text": "an \\"id\\" or \\"id\\""}']
    content = "\n".join(lines) if kind == "jsonl" else f"[{', '.join(lines)}]"
    found = read(tmp_path / "a", kind, content, field=field)
    assert [number for number, row in found if isinstance(row, Fault)] == faulty


def test_a_file_that_is_no_json_is_refused_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a is not valid JSON \(.*; name a file with one object per line \.jsonl"):
        read(tmp_path / "a", "json", '{"text": 1}\n{"text": 2}')
