"""Text recognition (OCR) of single PDF pages that are images: the page is drawn, and an engine reads it. Runs in a
worker process only, but for `ready`, which asks whether it can."""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from conf.ocr import Ocr
from conf.tesseract import checked
from jobs.corpus.extract.kept import Kept
from jobs.corpus.ocr_counts import EMPTY

MOST_PIXELS = 40_000_000
"""A page with more is drawn at a lower resolution: A2 at 300 dpi has 35 million. Scans that give a point of paper to
each pixel would have hundreds."""


class Unavailable(Exception):
    """The engine cannot serve any page; the message says why, and what to do."""


class Failed(Exception):
    """One page cannot be recognized; the message is the reason, its detail after a colon."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A page in shades of gray, a byte a pixel, row by row; `dpi` is its resolution."""

    width: int
    height: int
    pixels: bytes
    dpi: int

    def pgm(self) -> bytes:
        """As a portable graymap, which takes no time to write."""
        return b"P5 %d %d 255\n" % (self.width, self.height) + self.pixels

    def digest(self) -> str:
        """SHA-256 of all that the engine sees."""
        return hashlib.sha256(b"%d " % self.dpi + self.pgm()).hexdigest()

    def png(self) -> bytes:
        """As PNG."""
        rows = b"".join(
            b"\0" + self.pixels[start : start + self.width] for start in range(0, len(self.pixels), self.width)
        )
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 0, 0, 0, 0)
        parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        )


class Engine(Protocol):
    """Reads pictures of pages."""

    def read(self, picture: Picture, until: float) -> str:
        """The text, until that moment (time.monotonic). Raises Failed or Unavailable."""


@dataclass(slots=True)
class Recognizer:
    """Recognizes pages with an engine and counts them; `around` encloses the time of each page."""

    settings: Ocr
    engine: Engine
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    kept: Kept | None = None
    pages: int = 0
    characters: int = 0
    reduced: int = 0
    seconds: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)

    def text(self, page: Any) -> str:
        """The text of a PDFium page, empty where there is none or it failed. Raises Unavailable."""
        begin = time.monotonic()
        try:
            with self.around():
                picture = drawn(page, self.settings.dpi)
                self.reduced += picture.dpi < self.settings.dpi
                text = self._read(picture, begin + self.settings.seconds)
        except Failed as error:
            self.failed[str(error)] += 1
            return ""
        finally:
            self.seconds += time.monotonic() - begin
        if not text:
            self.failed[EMPTY] += 1
            return ""
        self.pages, self.characters = self.pages + 1, self.characters + len(text)
        return text

    def _read(self, picture: Picture, until: float) -> str:
        """The text, as an earlier attempt of the job kept it or as the engine reads it."""
        key = picture.digest() if self.kept else ""
        if self.kept and (text := self.kept.get(key)) is not None:
            return text
        # JSON may hold half of a surrogate pair, which UTF-8 cannot.
        text = self.engine.read(picture, until).encode("utf-8", "replace").decode().strip()
        if self.kept:
            self.kept.put(key, text)
        return text

    def counts(self) -> dict[str, Any]:
        """What became of the pages, for the answer."""
        return {
            "pages": self.pages,
            "characters": self.characters,
            "reduced": self.reduced,
            "failed": dict(self.failed),
            "seconds": self.seconds,
        }


def drawn(page: Any, dpi: int) -> Picture:
    """A PDFium page as a picture of at most MOST_PIXELS."""
    width, height = page.get_size()
    most = 72 * (MOST_PIXELS / max(width * height, 1)) ** 0.5
    # Above it, whole rows and columns are rounded up: a little less keeps the bound.
    used = dpi if dpi <= most else max(1, int(most * 0.999))
    bitmap = page.render(scale=used / 72, grayscale=True)
    picture = Picture(bitmap.width, bitmap.height, bytes(bitmap.buffer), used)  # its rows have no padding
    bitmap.close()
    return picture


def ready(settings: Ocr) -> tuple[str, dict[str, str]]:
    """What recognizes here, for the record: the engine with its version, and the digests of its languages. Raises
    ValueError where it cannot."""
    if settings.endpoint:
        key_of(settings)
        return f"model {settings.model}", {}
    found = checked(settings.languages)
    return f"tesseract {found.version}", found.digests(settings.languages)


def key_of(settings: Ocr) -> str | None:
    """The server's key, which is read here and stored nowhere. Raises ValueError where it is not set."""
    if settings.api_key_env is None:
        return None
    if key := os.environ.get(settings.api_key_env):
        return key
    raise ValueError(
        f"data.extract.ocr.api_key_env names {settings.api_key_env}, which is not set; set it in this environment"
    )
