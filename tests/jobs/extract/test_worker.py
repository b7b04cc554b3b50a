"""What a worker makes of a file: its first bytes, its size and what it lacks, before any parser reads it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from conf.extraction import Extract
from jobs.corpus.extract import worker
from jobs.corpus.extract.pdf import MAGIC, WITHIN

SETTINGS = Extract()
PLAIN = b"Plain words of a file."


def answer(content: bytes, settings: Extract = SETTINGS, **changed: Any) -> dict[str, Any]:
    return worker._answer(
        {"kind": "text", "charset": None, "truncated": "", "path": False} | changed, content, settings
    )


def test_text_is_read_and_its_kind_told() -> None:
    found = answer(PLAIN)
    assert (found["kind"], found["text"]) == ("text", PLAIN.decode())


@pytest.mark.parametrize("content", [b"", b" \t\r\n\0"])
def test_a_file_of_nothing_is_empty(content: bytes) -> None:
    assert answer(content)["reason"] == "empty"


@pytest.mark.parametrize(("over", "read"), [(0, True), (1, False)])
@pytest.mark.parametrize("path", [True, False])
def test_the_largest_file_that_is_read(over: int, read: bool, path: bool, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"max_bytes": 100})
    content = b"a" * (100 + over)
    (tmp_path / "a.txt").write_bytes(content)
    found = answer(os.fsencode(tmp_path / "a.txt") if path else content, settings, path=path)
    assert ("reason" not in found) is read
    assert read or found["reason"] == "too large: above data.extract.max_bytes 100"


@pytest.mark.parametrize(("before", "kind"), [(WITHIN - len(MAGIC), "pdf"), (WITHIN - len(MAGIC) + 1, "text")])
def test_first_bytes_tell_a_pdf(before: int, kind: str) -> None:
    content = b"x" * before + MAGIC + b"1.4"
    assert worker._text(content, {"kind": "text", "charset": None, "truncated": ""}, SETTINGS)["kind"] == kind


def test_an_error_page_under_a_pdfs_name_is_html() -> None:
    page = b"\n <html><body><p>" + b"There is no such file on this server. " * 8 + b"</p></body></html>"
    assert answer(page, kind="pdf")["kind"] == "html"


def test_a_web_archive_is_told_its_name() -> None:
    assert answer(b"WARC/1.0\r\n")["reason"] == "damaged: a web archive; call it .warc"


@pytest.mark.parametrize(("what", "read"), [("quarantine", False), ("keep", True)])
def test_a_truncated_text_is_read_where_asked(what: str, read: bool) -> None:
    found = answer(PLAIN, Extract.model_validate({"truncated": what}), truncated="length")
    assert found.get("reason") == (None if read else "truncated: length")
    assert answer(PLAIN)["text"]


def test_a_broken_parser_is_told_in_one_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("a" * 300 + "\nmore")

    monkeypatch.setattr(worker, "read_text", broken)
    assert answer(PLAIN) == {"reason": f"damaged: ValueError: {'a' * 200}"}


@pytest.mark.parametrize(("most", "read"), [(0, 0), (5, 5), (10, 10), (11, 10), (3 << 20, 10)])
def test_at_most_so_many_bytes_are_read(most: int, read: int) -> None:
    assert len(worker._read(io.BytesIO(b"x" * 10), most)) == read
    assert len(worker._read(io.BytesIO(b"x" * (1 << 21)), (1 << 20) + 1)) == (1 << 20) + 1


def test_memory_is_counted_in_bytes() -> None:
    before = worker._memory()
    held = bytearray(64 << 20)
    assert 48 << 20 < worker._memory() - before < 96 << 20 and held
