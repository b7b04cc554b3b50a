"""Web pages of many encodings."""

from __future__ import annotations

import pytest

from jobs.corpus.extract.charset import decode

RUSSIAN = "\u041c\u0435\u043b\u044c\u043d\u0438\u043a \u043c\u043e\u043b\u043e\u043b.\n" * 9
JAPANESE = "\u7c89\u5c4b\u306f\u591c\u306b\u7c89\u3092\u633d\u3044\u305f\u3002"


@pytest.mark.parametrize(
    ("text", "encoding", "told"),
    [
        (RUSSIAN, "utf-8", "windows-1251"),
        (RUSSIAN, "utf-16", None),
        (RUSSIAN, "koi8-r", "KOI8-R"),
        (RUSSIAN, "cp1251", None),
        ("\u201ccaf\u00e9\u201d", "cp1252", "ISO-8859-1"),
        (JAPANESE, "cp932", "Shift_JIS"),
        (JAPANESE, "iso2022_jp", "iso-2022-jp"),
        (JAPANESE, "euc_jp", "'euc-jp'"),
        ("\u4f60\u597d", "gb18030", "GB2312"),
    ],
)
def test_a_page_is_read_in_its_encoding(text: str, encoding: str, told: str | None) -> None:
    assert decode(text.encode(encoding), told) == (text, False)


@pytest.mark.parametrize(
    "head",
    [
        '<meta charset="koi8-r">',
        "<meta http-equiv=a content='text/html; charset=koi8-r'>",
        "<?xml version='1.0' encoding='koi8-r'?>",
    ],
)
def test_a_page_says_its_encoding(head: str) -> None:
    assert decode((head + RUSSIAN).encode("koi8-r"), None) == (head + RUSSIAN, False)


def test_an_unknown_encoding_is_not_believed() -> None:
    assert decode(RUSSIAN.encode("cp1251"), "x-sjis-foo") == (RUSSIAN, False)
    assert decode(b"<meta charset=utf-16>words", "base64") == ("<meta charset=utf-16>words", False)


def test_bytes_of_no_encoding_are_replaced_and_told() -> None:
    assert decode("caf\u00e9 ".encode() * 20 + b"\xff", "utf-8") == ("caf\u00e9 " * 20 + "\ufffd", True)
