"""Records of rows and lines: how they are joined, counted and bounded, and why one cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.sources import SourceFile
from conf.stages.data import DataConfig
from jobs.corpus import readers
from jobs.corpus.lines import BLANK, Fault
from jobs.corpus.readers import (
    Count,
    Document,
    advice_on_field,
    checked,
    documents_of,
    join_lines,
    read_file,
    reads_line_by_line,
    row,
)


def config(**settings: Any) -> DataConfig:
    return DataConfig.model_validate({"source": "x"} | settings)


LINES = [b"one\r\n", b"\n", b" \t\n", b"two\n", b"three\n", b"\xc2\xa0\n", b"\n", b"four"]
JOINED = {
    "line": [("one", 1, 1), ("two", 4, 1), ("three", 5, 1), ("four", 8, 1)],
    "paragraph": [("one", 1, 1), ("two\nthree", 4, 2), ("four", 8, 1)],
    "spaced": [("one\n\ntwo", 1, 2), ("three\n\nfour", 5, 2)],  # a line right behind another begins a document
    "file": [("one\ntwo\nthree\nfour", 1, 4)],
}


@pytest.mark.parametrize("style", JOINED)
def test_lines_are_joined_by_style(style: str) -> None:
    count = Count()
    found = list(join_lines(enumerate(LINES, 1), style, "a", 99, count))
    assert [(one.text, one.line, one.lines) for one in found] == JOINED[style]
    assert (count.lines, count.blank) == (8, 4)


def test_an_article_begins_with_its_title() -> None:
    lines = [b" = One = \n", b"\n", b" = = Part = = \n", b" Text.\n", None, b" = Two = \n", b"x"]
    first, second = join_lines(enumerate(lines, 1), "wikitext", "a", 7, Count())
    assert first == Document("a", 1, None, "longer than max_document_bytes 7", "", 4)
    assert (second.text, second.line, second.lines) == (None, 6, 2) and second.reason.startswith("10 bytes, longer")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\u00e9" * 5, ""),
        ("\u00e9" * 5 + "x", "11 bytes, longer than max_document_bytes 10"),
        ("a\0b", "contains NUL"),
        ("a\udc80", "invalid UTF-8 (byte 0x80)"),
        ("\udcff", "invalid UTF-8 (byte 0xff)"),
        ("a\udc7f", "contains a lone surrogate, which UTF-8 cannot hold"),
        ("a\udd00", "contains a lone surrogate, which UTF-8 cannot hold"),
    ],
)
def test_what_no_document_can_hold_is_told(text: str, reason: str) -> None:
    found = checked(text, "a", 3, 10, 2)
    assert (found.reason, found.text, found.lines) == (reason, None if reason else text, 2)


def test_a_row_is_a_document_by_its_field() -> None:
    settings = config(text_field="body", max_document_bytes=4)
    assert row({"body": "text"}, "a", 1, settings) == Document("a", 1, "text", lines=1)
    assert row({"body": b"caf\xc3"}, "a", 1, settings) == Document(
        "a", 1, None, "invalid UTF-8 (byte 0xc3)", "'caf\\udcc3'"
    )
    assert row({"body": " \n"}, "a", 1, settings) is None
    for value, reason, excerpt in (
        (Fault("damaged", "xy"), "damaged", "xy"),
        ([1], "not an object but list", "[1]"),
        ({"text": 1, "id": 2}, "no field 'body'", "text, id"),
        ({"body": 7}, "field 'body' is int, not a string", "{'body': 7}"),
        ({"body": "texts"}, "5 bytes, longer than max_document_bytes 4", "'texts'"),
    ):
        assert row(value, "a", 2, settings) == Document("a", 2, None, reason, excerpt)
    lacking = row({}, "a", 2, settings)
    assert lacking and advice_on_field(lacking) == ", only none: set data.text_field"
    assert advice_on_field(Document("a", 1, None, "bad")) == ""


def joined(texts: list[Any], join: str = "paragraph", joins: tuple[str, ...] = ("paragraph",)) -> list[Document]:
    values = ((number, BLANK if text is None else {"text": text}) for number, text in enumerate(texts, 1))
    return list(documents_of(values, "a", config(join=join), Count(), joins))


def test_rows_that_are_lines_are_joined_if_asked() -> None:
    assert [one.text for one in joined(["a", "b", "", "c"])] == ["a\nb", "c"]
    assert [one.text for one in joined(["a", "b", "", "c"], joins=())] == ["a", "b", "c"]
    assert [one.text for one in joined(["a\n", None, 7, "b"])] == ["a", None]
    assert [one.text for one in joined(["a", "b\nc", "d"])] == ["a", "b\nc", "d"], "these are documents already"
    titled = ["x", " = One = ", "a", " = Two = ", "b"]
    assert len(joined(titled, "auto", ("wikitext",))) == 3 and len(joined(titled[:1], "auto", ("wikitext",))) == 1
    assert len(joined(["a", "b", "c"], "auto", ("wikitext",))) == 3


def test_a_thousand_rows_and_a_mebibyte_tell_lines_from_documents() -> None:
    for before, whole in ((999, False), (1000, True)):
        assert len(joined(["a"] * before + ["b\nc"])) == (1 if whole else 1000), before
    for size, documents in ((1 << 20, 2), ((1 << 20) + 1, 1)):
        assert len(joined(["a" * size, "b\nc"])) == documents, size


def test_rows_and_blank_ones_are_counted() -> None:
    count = Count()
    values = enumerate([{"text": "a"}, BLANK, {"text": " "}, {"other": 1}], 1)
    found = list(documents_of(values, "a", config(join="line"), count, ()))
    assert [one.line for one in found] == [1, 4] and (count.lines, count.blank, count.repaired) == (4, 2, 0)


def test_a_json_line_is_as_long_as_escapes_make_its_text(tmp_path: Path) -> None:
    """Six bytes for each of the text's, and 4,096 for other fields."""
    path, settings = tmp_path / "a.jsonl", config(max_document_bytes=100)
    for size, read in ((4697, True), (4698, False)):
        line = json.dumps({"text": "a", "more": ""})
        path.write_text(line.replace('""', f'"{"x" * (size - len(line))}"') + "\n")
        (found,) = read_file(SourceFile(path, "jsonl"), settings, Count())
        assert (found.text == "a") is read, size
    assert found.reason == "a line longer than 4696 bytes"


@pytest.mark.parametrize(
    ("name", "content", "settings", "by_line"),
    [
        ("a.txt", "one\ntwo\n", {}, True),
        ("a.txt", "one\n = Title = \n", {}, False),
        ("a.txt", "one\n", {"join": "paragraph"}, False),
        ("a.jsonl", '{"text": "one"}\n', {}, True),
        ("a.jsonl", '{"text": "x"}\n{"text": " = Title = "}\n', {}, False),
        ("a.jsonl", '{"text": "one"}\n', {"join": "wikitext"}, False),
        ("a.jsonl", '{"text": "one"}\n', {"join": "paragraph"}, True),  # of local rows, only articles are joined
    ],
)
def test_whether_each_line_is_a_document(name: str, content: str, settings: Any, by_line: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    kind = "text" if name.endswith("txt") else "jsonl"
    assert reads_line_by_line(SourceFile(tmp_path / name, kind), config(**settings)) is by_line


def test_bytes_that_are_not_of_the_encoding_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\n\xe9\n")
    good, bad = read_file(SourceFile(tmp_path / "a.txt", "text"), config(encoding="utf-8"), Count())
    assert (good.text, bad.reason) == ("good", "not utf-8 (invalid continuation byte)")


def test_an_encoding_is_advised_where_bytes_are_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(readers, "advice", lambda sample, setting: asked.append((sample, setting)) or "; set it")
    (tmp_path / "a.txt").write_bytes(b"good\n\xe9\nb\0\n\xe8\n")
    found = list(read_file(SourceFile(tmp_path / "a.txt", "text"), config(), Count()))
    bad = "invalid UTF-8 (invalid continuation byte); set it"
    assert [one.reason for one in found] == ["", bad, "contains NUL", bad]
    assert asked == [(b"good\n\xe9\nb\0\n\xe8\n", "data.encoding")]


def test_counts_of_processes_add_up() -> None:
    count = Count(lines=1, blank=2, repaired=3)
    count.add(Count(lines=10, blank=20, repaired=30))
    assert count == Count(lines=11, blank=22, repaired=33)
