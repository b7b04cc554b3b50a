"""The pages of web archives, and what becomes of every other record."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from conf.extraction import Extract
from jobs.corpus.extract.warc import pages
from jobs.corpus.extract.workers import Task
from jobs.corpus.extract_counts import Extracted
from tests.fixtures.documents import answer, packed, page, pdf, record

BODY = page("The miller ground his corn.").encode()
TWO = [record(b"software: x", "warcinfo"), record(answer(BODY)), record(answer(b"%PDF-1.4 x", "application/pdf"))]


def read(path: Path, content: bytes, **settings: Any) -> tuple[list[Task], Extracted]:
    path.write_bytes(content)
    found = Extracted()
    tasks = list(pages(path, Extract(**settings), found))
    assert sum(found.records.values()) == len(tasks) + sum(found.skipped.values())
    return tasks, found


def one(path: Path, *arguments: Any, **settings: Any) -> Task:
    tasks, _ = read(path, record(*arguments), **settings)
    assert len(tasks) == 1
    return tasks[0]


@pytest.mark.parametrize(
    "pack", [b"".join, lambda records: packed(*records), lambda records: gzip.compress(b"".join(records))]
)
def test_pages_are_found_whatever_the_compression(pack: Any, tmp_path: Path) -> None:
    tasks, found = read(tmp_path / "a.warc", pack(TWO))
    assert [(task.line, task.kind, task.content) for task in tasks] == [(2, "html", BODY), (3, "pdf", b"%PDF-1.4 x")]
    assert found.records == {"response": 2, "warcinfo": 1} and found.skipped == {"type warcinfo": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (answer(BODY, status="404 Not Found"), "status 404"),
        (answer(b"\x89PNG", "image/png"), "media type image/png"),
        (b"\xff\xfe no header at all", "no HTTP header"),
        (answer(b"\x89PNG", ""), "no media type"),
    ],
)
def test_what_is_no_page_is_counted(body: bytes, reason: str, tmp_path: Path) -> None:
    tasks, found = read(tmp_path / "a.warc", record(body))
    assert not tasks and found.skipped == {reason: 1}


def test_a_page_without_media_type_is_known_by_its_start(tmp_path: Path) -> None:
    assert one(tmp_path / "a.warc", answer(BODY, "")).kind == "html"
    assert one(tmp_path / "a.warc", answer(pdf(""), "")).kind == "pdf"


def test_texts_of_conversions_are_pages(tmp_path: Path) -> None:
    task = one(tmp_path / "a.warc", b"plain words", "conversion", "", "text/plain")
    assert (task.kind, task.content) == ("text", b"plain words")


def test_the_servers_charset_goes_with_the_page(tmp_path: Path) -> None:
    assert one(tmp_path / "a.warc", answer(BODY, 'text/html; charset="koi8-r"')).charset == '"koi8-r"'


def test_packed_and_chunked_content_is_unpacked(tmp_path: Path) -> None:
    small = gzip.compress(BODY)
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(small), small)
    headers = "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
    task = one(tmp_path / "a.warc", answer(chunked, headers=headers))
    assert task.content == BODY and not task.truncated
    cut = one(tmp_path / "a.warc", answer(small[:-20], headers="Content-Encoding: gzip\r\n"))
    assert cut.truncated == "its packed content ends early"
    brotli = one(tmp_path / "a.warc", answer(b"x", headers="Content-Encoding: br\r\n"))
    assert brotli.reason == "damaged: its content encoding is br, which is not read"


def test_a_page_that_the_crawler_cut_says_so(tmp_path: Path) -> None:
    task = one(tmp_path / "a.warc", answer(BODY), "response", "WARC-Truncated: length\r\n")
    assert task.truncated == "WARC-Truncated is length"
    short = one(tmp_path / "a.warc", answer(BODY, headers=f"Content-Length: {len(BODY) + 9}\r\n"))
    assert short.truncated == f"{len(BODY)} bytes of {len(BODY) + 9}"


def test_a_page_that_is_too_large_is_not_kept(tmp_path: Path) -> None:
    bomb = gzip.compress(b"a" * 100_000)
    task = one(tmp_path / "a.warc", answer(bomb, headers="Content-Encoding: gzip\r\n"), max_bytes=5000)
    assert (task.reason, task.content) == ("too large: above data.extract.max_bytes 5000", b"")


@pytest.mark.parametrize(("more", "reason"), [(0, ""), (1, "too large: above data.extract.max_bytes 1048576")])
def test_a_page_may_be_as_large_as_asked(more: int, reason: str, tmp_path: Path) -> None:
    """A mebibyte is read at once: what follows it is looked at too."""
    content = BODY.ljust((1 << 20) + more)
    task = one(tmp_path / "a.warc", answer(content), max_bytes=1 << 20)
    assert (task.reason, task.content) == (reason, b"" if reason else content)


@pytest.mark.parametrize("pack", [b"".join, lambda records: packed(*records)])
def test_an_archive_cut_anywhere_says_so(pack: Any, tmp_path: Path) -> None:
    whole = pack(TWO)
    between = {len(pack(TWO[:count])) - 4 * (pack is not packed) + end for count in (1, 2, 3) for end in range(5)}
    for length in [*range(1, 40), *(set(range(40, len(whole), 23)) - between)]:
        tasks, found = read(tmp_path / "a.warc", whole[:length])
        assert tasks[-1].reason.startswith(("truncated", "damaged")), length
        assert all(not task.reason for task in tasks[:-1])
        assert found.records["response"] >= sum(length >= len(pack(TWO[:count])) for count in (2, 3))


def test_an_empty_archive_has_a_reason(tmp_path: Path) -> None:
    tasks, _ = read(tmp_path / "a.warc", b"")
    assert [task.reason for task in tasks] == ["empty"]


def test_an_archive_with_an_endless_tail_ends(tmp_path: Path) -> None:
    tasks, _ = read(tmp_path / "a.warc", b"".join(TWO) + b"\0" * 4_000_000)
    assert [bool(task.reason) for task in tasks] == [False, False, True]
    assert tasks[-1].reason == "damaged: what follows record 3 cannot be read, no record begins within 1048576 bytes"
