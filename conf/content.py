"""Files as they are, whatever they are called: unpacked where they are compressed, and the format that their first
bytes show."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from conf.text_encoding import stated

MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
COMPRESSED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
HEAD = 1 << 16
"""Bytes that decide a format."""


def open_bytes(path: Path) -> IO[bytes]:
    """The content of a file, unpacked where its first bytes say that it is compressed. Raises ValueError where only its
    suffix says so."""
    raw = path.open("rb")
    head = raw.peek(8)[:8]
    packed = next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)
    if packed == "bzip2" and head[4:8] != b"1AY&":  # a text may start with BZh
        packed = None
    if packed is None:
        if head and (expected := COMPRESSED.get(path.suffix.lower())):
            raw.close()
            raise ValueError(f"{path} is not a complete {expected} file (it does not start like one); fetch it again")
        return raw
    stream = _unpacked(raw, packed)
    if path.suffix.lower() not in COMPRESSED:
        try:
            stream.peek(1)  # type: ignore[attr-defined]
        except (EOFError, zlib.error, lzma.LZMAError, OSError):  # some other file that starts like a compressed one
            return path.open("rb")
    return stream


def _unpacked(raw: io.BufferedReader, packed: str) -> IO[bytes]:
    if packed == "zstd":
        import pyarrow

        stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")
        return io.BufferedReader(stream, 1 << 20)
    # The caller closes it.
    opened: Any = bz2.open(raw) if packed == "bzip2" else lzma.open(raw) if packed == "xz" else gzip.open(raw)  # noqa: SIM115
    return opened  # type: ignore[no-any-return]


@contextlib.contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turns the errors of damaged compressed files, which have no class in common, into one ValueError."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        with path.open("rb") as stream:
            head = stream.read(8)
        packed = next((name for magic, name in MAGIC.items() if head.startswith(magic)), "compressed")
        raise ValueError(f"{path} is not a complete {packed} file ({error}); fetch or compress it again") from error


def format_of(path: Path) -> str | None:
    """The format that a file's content shows: parquet, arrow, jsonl or json; None for anything else, plain text
    included."""
    with whole(path), open_bytes(path) as stream:
        head = stream.read(HEAD)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    return json_format(head)


def json_format(head: bytes) -> str | None:
    """jsonl where the first line that is not blank is one object (or the start of a long one), json where it starts or
    holds an array of objects or an object over several lines; None for what is no JSON."""
    text = head.decode(stated(head) or "utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    first, end, _ = text.partition("\n")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        if text.startswith('{"') and not end:
            return "jsonl"
        return "json" if first.strip() in ("{", "[") or text.startswith(("[{", "[ {")) else None
    if isinstance(value, list):
        return "json" if not value or isinstance(value[0], dict) else None
    return "jsonl" if isinstance(value, dict) else None
