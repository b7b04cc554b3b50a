"""The setting `encoding` of text files: how it is checked, and the encoding of a file that does not say its own.
Standard library only, chardet where a guess is asked for."""

from __future__ import annotations

import codecs
from typing import Annotated

from pydantic import AfterValidator, Field

from conf.base import Later

BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks and what they say; a UTF-32 mark starts with one of UTF-16."""
SAMPLE = 1 << 20
"""Bytes of a file that are looked at."""
ASCII = bytes(range(128))
LETTERS = 5
"""Bytes beyond ASCII that a guess needs; from fewer, any encoding is as likely as another."""
GUESSED_FROM = 20_000
"""Most bytes of lines beyond ASCII that a guess is made from."""


def _known(name: str | None) -> str | None:
    if name is None:
        return None
    try:
        "".encode(name)  # codecs of bytes, such as base64, are refused here
        return codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        raise ValueError(f"{name!r} is no encoding of text; examples are utf-16, cp1252 and gb18030") from error


Encoding = Annotated[
    str | None,
    AfterValidator(_known),
    Later(),
    Field(
        description=(
            "Encoding of the text files, for instance cp1252, cp1254 or utf-16-le; empty: what a byte-order mark says,"
            " else UTF-8."
        )
    ),
]


def stated(head: bytes) -> str | None:
    """The encoding that the first bytes of a file show: a byte-order mark, or the zero bytes of UTF-16 without one;
    None for UTF-8 and for anything else."""
    for mark, name in BOMS:
        if head.startswith(mark):
            return name
    pairs = len(head) // 2
    if pairs < 32:
        return None
    zeros = [head[first : 2 * pairs : 2].count(0) / pairs for first in (0, 1)]
    if zeros[1] > 0.9 and zeros[0] < 0.02:
        return "utf-16-le"
    return "utf-16-be" if zeros[0] > 0.9 and zeros[1] < 0.02 else None


def guessed(sample: bytes) -> str | None:
    """The encoding that bytes which are not UTF-8 are most likely in, by their lines beyond ASCII; None where most of
    those are UTF-8 after all, and only some are damaged, or where they are too few."""
    import chardet

    foreign = [line for line in sample.splitlines() if not line.isascii()]
    damaged = [line for line in foreign if not _is_utf8(line)]
    few = sum(len(line.translate(None, ASCII)) for line in damaged[:LETTERS]) < LETTERS
    if few or 2 * len(damaged) < len(foreign):
        return None
    found = chardet.detect(b"\n".join(damaged)[:GUESSED_FROM])["encoding"]
    try:
        name = codecs.lookup(found.replace("WINDOWS-", "cp") if found else "").name
    except LookupError:
        return None
    return None if name in ("utf-8", "ascii") else name


def decoded(content: bytes, file: str, setting: str) -> str:
    """The text of a whole file, without its byte-order mark. Raises ValueError with the likely encoding where it is
    neither UTF-8 nor says what it is; `setting` would set it, and is empty where there is no such setting."""
    encoding = stated(content[:SAMPLE]) or "utf-8"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file}:{line} is not UTF-8 ({error.reason}){advice(content[:SAMPLE], setting) or '; convert it to UTF-8'}"
        ) from error


def advice(sample: bytes, setting: str) -> str:
    """How to read bytes that are not UTF-8, as the end of a sentence; empty where nothing is likely."""
    likely = guessed(sample)
    if likely is None:
        return ""
    name = likely.upper().replace("CP125", "Windows-125")
    return f"; it looks like {name}: {f'set {setting}={likely}' if setting else 'convert it to UTF-8'}"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
