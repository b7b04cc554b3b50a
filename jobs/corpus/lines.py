"""Text files as lines of UTF-8, whatever their encoding and compression, and what stands for a row that cannot be
read."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from conf.content import open_bytes
from conf.text_encoding import SAMPLE, stated


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot be read; `excerpt` is a short ASCII part of it."""

    reason: str
    excerpt: str = ""


class _Blank:
    """An empty line, which is no row."""


BLANK = _Blank()


def excerpt(value: Any) -> str:
    """At most 80 ASCII characters of a value."""
    return ascii(value)[:80]


def shown(path: Path) -> str:
    """A path as text that can be written anywhere; bytes of its name that are not UTF-8 become escapes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_unique(path: Path, names: list[str]) -> None:
    """Raise ValueError where a table has two columns of one name, of which only one would be read."""
    repeated = [name for name in dict.fromkeys(names) if name and names.count(name) > 1]
    if repeated:
        raise ValueError(
            f"{shown(path)} has {names.count(repeated[0])} columns called {repeated[0]!r}; rename all but one"
        )


def _undecodable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Makes what cannot be decoded a byte that is no UTF-8, so that its row is rejected where it is used."""
    if isinstance(error, UnicodeEncodeError):
        return b"\xff" * (error.end - error.start), error.end
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error("imbik-undecodable", _undecodable)


class _Utf8(io.RawIOBase):
    """A stream of another encoding as UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream, self._rest = stream, b""
        self._decoder = codecs.getincrementaldecoder(encoding)("imbik-undecodable")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = self._stream.read(1 << 18)
            text = self._decoder.decode(piece, final=not piece)
            self._rest = text.encode("utf-8", "imbik-undecodable")
            if not piece:
                break
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def open_utf8(path: Path, encoding: str | None = None) -> IO[bytes]:
    """A text file as UTF-8 without byte-order mark, unpacked. A byte-order mark decides its encoding, then `encoding`,
    then the zero bytes of UTF-16."""
    stream = open_bytes(path)
    head = stream.peek(4096)[:4096]  # type: ignore[attr-defined]
    own = stated(head) or encoding
    if own == "utf-8-sig":
        stream.read(3)
    elif own is not None and own != "utf-8":
        return io.BufferedReader(_Utf8(stream, own), 1 << 20)
    return stream


def sample_of(path: Path) -> bytes:
    """The first bytes of a file as they are, unpacked."""
    with open_bytes(path) as stream:
        return stream.read(SAMPLE)


class _Newlines(io.RawIOBase):
    """A stream whose lines end with carriage returns alone, as old Macs wrote them, with line feeds in their place."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._stream.close()
        super().close()


def open_lines(path: Path, encoding: str | None) -> IO[bytes]:
    """A text file as `open_utf8` opens it, whose lines end with line feeds also where only carriage returns do."""
    with open_utf8(path, encoding) as stream:
        start = stream.read(SAMPLE).removesuffix(b"\r")  # half of a line's end, perhaps
    stream = open_utf8(path, encoding)
    if b"\r" in start and b"\n" not in start:
        return io.BufferedReader(_Newlines(stream), 1 << 20)
    return stream


class _Span(io.RawIOBase):
    """The bytes of a file from one place to another."""

    def __init__(self, path: Path, span: tuple[int, int]) -> None:
        self._stream, self._left = path.open("rb"), span[1] - span[0]
        self._stream.seek(span[0])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(memoryview(buffer)[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def numbered_lines(
    path: Path, limit: int, encoding: str | None = None, span: tuple[int, int] | None = None
) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines; one longer than `limit` is skipped in pieces and yielded as None, so that it never fills
    memory. Of a `span` of bytes, which begins with a line, they are numbered from 1 too."""
    with io.BufferedReader(_Span(path, span), 1 << 20) if span else open_lines(path, encoding) as stream:
        number = 0
        while line := stream.readline(limit + 2):
            number += 1
            if line.endswith(b"\n") or len(line) < limit + 2:
                yield number, line
                continue
            while (piece := stream.readline(1 << 20)) and not piece.endswith(b"\n"):
                pass
            yield number, None
