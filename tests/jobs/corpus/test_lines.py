"""Lines of text files: their numbers and bounds, whatever the encoding, and names that stand twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.corpus.lines import check_unique, excerpt, numbered_lines, open_lines, open_utf8, shown

WIDE = "\U0001f469" * 70_000
"""More than is decoded at once, in pairs of two bytes that a byte-order mark of two moves across its border."""


def written(folder: Path, content: bytes) -> Path:
    (folder / "a.txt").write_bytes(content)
    return folder / "a.txt"


def test_a_line_longer_than_the_limit_is_skipped_whole(tmp_path: Path) -> None:
    """Its end may be two bytes, which are not counted; the pieces in which the rest is skipped hold a mebibyte."""
    path = written(tmp_path, b"aaaa\r\n" + b"b" * 6 + b"\nc\n" + b"d" * (1 << 21) + b"\n\n" + b"e" * 5)
    assert list(numbered_lines(path, 4)) == [
        (1, b"aaaa\r\n"),
        (2, None),
        (3, b"c\n"),
        (4, None),
        (5, b"\n"),
        (6, b"e" * 5),
    ]
    assert list(numbered_lines(written(tmp_path, b"e" * 6), 4)) == [(1, None)]


def test_lines_of_a_span_are_numbered_from_one(tmp_path: Path) -> None:
    path = written(tmp_path, b"one\ntwo\nthree\nfour")
    assert list(numbered_lines(path, 9, span=(4, 14))) == [(1, b"two\n"), (2, b"three\n")]
    assert list(numbered_lines(path, 9, span=(14, 18))) == [(1, b"four")]


@pytest.mark.parametrize(
    ("content", "encoding", "text"),
    [
        (b"\xef\xbb\xbfab", None, b"ab"),
        (b"\xef\xbb\xbfab", "cp1252", b"ab"),  # a mark decides first
        (b"caf\xe9", None, b"caf\xe9"),
        (b"caf\xe9", "utf-8", b"caf\xe9"),
        (b"caf\xe9", "cp1252", "caf\u00e9".encode()),
        ("ab".encode("utf-16"), None, b"ab"),
        ("ab\n".encode("utf-16-le") * 20, None, b"ab\n" * 20),
        (WIDE.encode("utf-16"), None, WIDE.encode()),
        (b"a\x81\x8db", "cp1252", b"a\xff\xffb"),  # bytes that the encoding does not have
        ("ab".encode("utf-16-be") + b"\0", "utf-16-be", b"ab\xff"),  # half a character at the end
    ],
)
def test_any_encoding_is_read_as_utf8(content: bytes, encoding: str | None, text: bytes, tmp_path: Path) -> None:
    with open_utf8(written(tmp_path, content), encoding) as stream:
        assert stream.read() == text


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\rb\rc", [b"a\n", b"b\n", b"c"]),
        (b"a\r\nb\r\n", [b"a\r\n", b"b\r\n"]),
        (b"a\nb\rc\n", [b"a\n", b"b\rc\n"]),
        (b"a\r", [b"a\r"]),
    ],
)
def test_carriage_returns_alone_end_lines(content: bytes, lines: list[bytes], tmp_path: Path) -> None:
    with open_lines(written(tmp_path, content), None) as stream:
        assert stream.readlines() == lines


@pytest.mark.parametrize(("names", "told"), [("abcb", "2 columns called 'b'"), ("acbcbc", "3 columns called 'c'")])
def test_a_column_that_stands_twice_is_named(names: str, told: str) -> None:
    check_unique(Path("t.csv"), ["a", "", "b", "", "c"])
    with pytest.raises(ValueError, match=rf"^t\.csv has {told}; rename all but one$"):
        check_unique(Path("t.csv"), list(names))


def test_what_is_shown_can_be_written_anywhere() -> None:
    assert excerpt("\u00e9" + "x" * 90) == "'\\xe9" + "x" * 75 and excerpt(7) == "7"
    assert shown(Path(os.fsdecode(b"a/caf\xe9.txt"))) == "a/caf\\xe9.txt"
