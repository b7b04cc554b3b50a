"""Tables of text: where rows start, what separates them, and the longest field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.corpus.lines import BLANK, Fault
from jobs.corpus.separated import table


def rows(
    folder: Path, content: str, *, field: str | None = "text", kind: str = "csv", limit: int = 100
) -> list[tuple[int, Any]]:
    (folder / "a.csv").write_text(content, newline="")
    return list(table(folder / "a.csv", kind, field, limit, None, "data.text_field"))


GOOD = {"id": "1", "text": "x, y"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('id,text\n1,"x, y"\n', [(2, GOOD)]),
        ('sep=;\nid;text\n\n1;"x, y"\n', [(3, BLANK), (4, GOOD)]),
        ("SEP=;\r\nid;text\r\n1;x, y\r\n", [(3, GOOD)]),
        ("sep=;;text\na;b;c\n", [(2, {"sep=": "a", "": "b", "text": "c"})]),  # a header
        ("id|text\n1|x, y\n", [(2, GOOD)]),
        ('"a\nname";text\n1;x\n', [(3, {"a\nname": "1", "text": "x"})]),
        ('"a ""name""",text\n1,x\n2,y\n', [(2, {'a "name"': "1", "text": "x"}), (3, {'a "name"': "2", "text": "y"})]),
        ('id, text\n1, "x, y"\n', [(2, GOOD)]),
        ('id, "text"\n1, x\n', [(2, {"id": "1", "text": "x"})]),
        ("id,text\n1, x\n", [(2, {"id": "1", "text": " x"})]),
        ("id,text\n1\n", [(2, {"id": "1"})]),
        ('id,text\n1,"x\n\ny"\n2,z\n', [(2, {"id": "1", "text": "x\n\ny"}), (5, {"id": "2", "text": "z"})]),
    ],
)
def test_rows_have_the_line_on_which_they_start(content: str, found: list[Any], tmp_path: Path) -> None:
    assert rows(tmp_path, content) == found


@pytest.mark.parametrize(
    ("content", "kind", "found"),
    [
        ("a;b\n1;2\n", "csv", {"a": "1", "b": "2"}),
        ("a,b\tc\n1,2\t3\n", "tsv", {"a,b": "1,2", "c": "3"}),
        ("a\n1;2\n", "csv", {"a": "1;2"}),
    ],
)
def test_without_a_field_the_header_decides(content: str, kind: str, found: Any, tmp_path: Path) -> None:
    assert rows(tmp_path, content, field=None, kind=kind) == [(2, found)]


def test_what_is_no_row_is_a_fault_for_each_of_its_lines(tmp_path: Path) -> None:
    found = rows(tmp_path, 'id,text\n1,2,3\n4,"5\n6"7\n8,9\n')
    assert found[0] == (2, Fault("3 fields but the header has 2 (a separator outside quotes?)", "['1', '2', '3']"))
    reason = "the row of lines 3 to 4: ',' expected after '\"'"
    assert found[1:] == [(3, Fault(reason)), (4, Fault(reason)), (5, {"id": "8", "text": "9"})]


@pytest.mark.parametrize(("limit", "longest"), [(10, 1 << 17), ((1 << 17) + 5, (1 << 17) + 5)])
def test_a_field_is_as_long_as_a_document_may_be(limit: int, longest: int, tmp_path: Path) -> None:
    ((_, good),) = rows(tmp_path, f"id,text\n1,{'x' * longest}\n", limit=limit)
    assert len(good["text"]) == longest
    ((number, bad),) = rows(tmp_path, f"id,text\n1,{'x' * (longest + 1)}\n", limit=limit)
    assert number == 2 and "field larger than field limit" in bad.reason


def test_a_table_without_the_field_tells_twenty_columns(tmp_path: Path) -> None:
    names = [f"column{number}" for number in range(21)]
    told = f"a.csv has the columns {', '.join(names[:20])}, separated by comma, but no 'text'; set data.text_field"
    with pytest.raises(ValueError, match=told):
        rows(tmp_path, ",".join(names) + "\n1\n")
    with pytest.raises(ValueError, match=r"has the columns x{80}, separated by tab, but"):
        rows(tmp_path, "x" * 81 + "\n", kind="tsv")
    with pytest.raises(ValueError, match=r"has the columns none, separated"):
        rows(tmp_path, "\n1\n")


def test_columns_that_are_not_read_may_stand_twice(tmp_path: Path) -> None:
    assert rows(tmp_path, "id,id,text\n1,2,x\n") == [(2, {"id": "2", "text": "x"})]
    for content in ("id,id,text\n1,2,x\n", "a,a\n"):
        with pytest.raises(ValueError, match=r"has 2 columns called"):
            rows(tmp_path, content, field=None)
    with pytest.raises(ValueError, match=r"has 2 columns called 'text'"):
        rows(tmp_path, "text,text\n1,2\n")
