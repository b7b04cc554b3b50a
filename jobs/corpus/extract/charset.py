"""Web pages as text, whatever their encoding: what a byte-order mark, the server or the page says, and a guess where
that cannot be."""

from __future__ import annotations

import codecs
import re

from conf.text_encoding import SAMPLE, guessed, stated

DECLARED = re.compile(
    rb"""<(?:meta\b[^>]*?\bcharset|\?xml\b[^>]*?\bencoding)\s*=\s*["']?\s*([\w:.-]+)""", re.IGNORECASE
)
DECLARED_WITHIN = 4096
"""Bytes in which a page says its encoding; browsers look at 1,024."""
READ_AS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "tis-620": "cp874",
}
"""Encodings that browsers read as a larger one (WHATWG), by Python's names."""
FEW = 0.1
"""Share of the characters beyond ASCII that may be damaged in a page of UTF-8."""
WITHIN_ASCII = ("iso2022", "hz", "utf-7")
"""Encodings whose bytes are also valid UTF-8."""


def decode(content: bytes, told: str | None) -> tuple[str, bool]:
    """The text of a page, and whether some of its bytes could not be decoded and are U+FFFD; `told` is the encoding
    that the server named. Bytes that are UTF-8 are read as such whatever is declared: nothing else looks like it."""
    if marked := stated(content[:SAMPLE]):
        return _read(content, marked)
    declared = [name for name in (_known(told), _known(_in_page(content))) if name]
    likely = declared if declared and declared[0].startswith(WITHIN_ASCII) else ["utf-8", *declared]
    for name in likely:
        text, damaged = _read(content, name)
        if not damaged:
            return text, False
    text = content.decode("utf-8", "replace")
    if text.count("\ufffd") <= FEW * sum(not character.isascii() for character in text):
        return text, True
    return _read(content, guessed(content[:SAMPLE]) or (declared or ["utf-8"])[0])


def _read(content: bytes, name: str) -> tuple[str, bool]:
    try:
        return content.decode(name), False
    except UnicodeDecodeError:
        return content.decode(name, "replace"), True


def _in_page(content: bytes) -> str | None:
    found = DECLARED.search(content[:DECLARED_WITHIN])
    return found[1].decode("ascii", "replace") if found else None


def _known(name: str | None) -> str | None:
    """Python's name for an encoding of text; None for one it does not know, or that the bytes show it is not."""
    try:
        known = codecs.lookup((name or "").strip("\"' ")).name
        "".encode(known)
    except (LookupError, ValueError):
        return None
    # A page that says so in ASCII is not in it.
    return None if known.startswith(("utf-16", "utf-32", "utf-8")) else READ_AS.get(known, known)
