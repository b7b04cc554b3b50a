"""The pages of a web archive (WARC), as tasks for parsers; every other record is counted by what it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from conf.content import open_bytes
from conf.extraction import Extract
from jobs.corpus.extract.pdf import MAGIC, WITHIN
from jobs.corpus.extract.workers import Task
from jobs.corpus.extract_counts import Extracted
from jobs.corpus.lines import excerpt, shown

KINDS = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "text/plain": "text",
}
"""Media types that hold text."""
HOLDS_PAGES = ("response", "resource", "conversion")
"""Types of records with the content of an address; the others say how it was fetched."""
HEADER = 1 << 20
"""Most bytes from the end of a record to the content of the next."""


class _CutShort(Exception):
    """The archive ends within a record."""


class _Stream:
    """An archive, unpacked. warcio takes an EOFError of gzip for a regular end, and reads a line of any length."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._offset, self._allowed, self.last = stream, 0, HEADER, b""

    def read(self, size: int = -1) -> bytes:
        if self._offset > self._allowed:
            raise ValueError(f"no record begins within {HEADER} bytes")
        try:
            # Not read: what it has before the end that comes too early would be lost.
            piece = self._stream.read1(size)  # type: ignore[attr-defined]
        except EOFError as error:
            raise _CutShort from error
        self._offset += len(piece)
        self.last = piece[-1:] or self.last
        return piece

    def tell(self) -> int:
        return self._offset

    def allow(self, content: int) -> None:
        """Allow reading the content of a record and what lies between it and the next one."""
        self._allowed = self._offset + content + HEADER


def pages(path: Path, settings: Extract, found: Extracted) -> Iterator[Task]:
    """A task for each page, and one with a reason where the archive ends too early or cannot be read on."""
    number, name, fault = 0, shown(path), ""
    try:
        with open_bytes(path) as raw:
            stream = _Stream(raw)
            for number, record in enumerate(_records(stream), 1):
                stream.allow(record.length or 0)
                found.records[record.rec_type or "of no type"] += 1
                page, whole = _page(record, Task(file=name, line=number, kind="warc"), settings)
                if isinstance(page, str):
                    found.skipped[page] += 1
                elif whole:
                    yield page
                else:
                    yield replace(page, content=b"", reason="truncated: the archive ends within this record")
                    return
                if not whole:
                    raise _CutShort
            if number == 0:
                fault = "damaged: no record of a web archive" if stream.tell() else "empty"
            elif stream.last != b"\n":  # every record ends with two line ends
                raise _CutShort
    except _CutShort:
        fault = f"truncated: the archive ends within or after record {number}"
    except Exception as error:  # noqa: BLE001
        # gzip, zlib and warcio raise classes without a common base, and warcio whatever a bad header makes it raise.
        # One bad file must not end the stage.
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        fault = f"damaged: what follows record {number} cannot be read, {said}"
    if fault:
        found.records["unreadable"] += 1
        yield Task(file=name, line=number + 1, kind="warc", reason=fault)


def _records(stream: _Stream) -> Iterator[Any]:
    from warcio.archiveiterator import WARCIterator

    # HTTP headers are read below: an archive that ends within them ends without an error here.
    return iter(WARCIterator(stream, no_record_parse=True))


def _page(record: Any, at: Task, settings: Extract) -> tuple[Task | str, bool]:
    """The task of one record, or why it is no page; and whether the archive has all of it."""
    page: Task | str = at
    try:
        if record.length is None:
            return page, False
        page = _described(record, at)
        if isinstance(page, Task):
            page = _filled(record, page, settings)
        while record.raw_stream.read(1 << 20):
            pass
    except _CutShort:
        return page, False
    return page, record.raw_stream.limit == 0


def _described(record: Any, at: Task) -> Task | str:
    """What the headers say of a page, or why it is none."""
    from warcio.recordloader import ArcWarcRecordLoader

    headers = record.rec_headers
    if record.rec_type not in HOLDS_PAGES:
        return f"type {record.rec_type}"
    address = headers.get_header("WARC-Target-URI") or ""
    media = headers.get_header("Content-Type") or ""
    if record.rec_type == "response":
        try:
            record.http_headers = ArcWarcRecordLoader().load_http_headers("response", address, record.raw_stream, 1)
        except _CutShort:
            raise
        except Exception:  # noqa: BLE001 - whatever a line makes it raise that is no HTTP header
            record.http_headers = None
        if record.http_headers is None:
            return "no HTTP header"
        if (status := record.http_headers.get_statuscode()) != "200":
            return f"status {ascii(status)[1:-1][:10]}"
        media = record.http_headers.get_header("Content-Type") or ""
    media, _, parameters = media.partition(";")
    media = headers.get_header("WARC-Identified-Payload-Type") or media.strip().lower()
    if media and media not in KINDS:
        return f"media type {ascii(media)[1:-1][:60]}"
    charset = next((value for name, _, value in _split(parameters) if name == "charset"), None)
    cut = headers.get_header("WARC-Truncated")
    told = f"WARC-Truncated is {ascii(cut)[1:-1][:20]}" if cut else None
    return replace(at, kind=KINDS.get(media, ""), charset=charset, truncated=told, about=excerpt(address), url=address)


def _split(parameters: str) -> list[tuple[str, str, str]]:
    return [part.strip().lower().partition("=") for part in parameters.split(";")]


def _filled(record: Any, page: Task, settings: Extract) -> Task | str:
    """The task with its content, unpacked."""
    stream, http = record.content_stream(), record.http_headers
    encoding = ((http and http.get_header("Content-Encoding")) or "").strip().lower()
    if encoding not in ("", "identity", "gzip", "deflate"):
        return replace(page, reason=f"damaged: its content encoding is {ascii(encoding)[1:-1][:20]}, which is not read")
    before, pieces, size = record.raw_stream.limit, [], 0
    while size <= settings.max_bytes and (piece := stream.read(min(1 << 20, settings.max_bytes + 1 - size))):
        pieces.append(piece)
        size += len(piece)
    content = b"".join(pieces)
    if size > settings.max_bytes:
        return replace(page, reason=f"too large: above data.extract.max_bytes {settings.max_bytes}")
    packed = getattr(stream, "decompressor", None)
    length = (http and http.get_header("Content-Length")) or ""
    told = page.truncated
    if packed is not None and not packed.eof:
        told = told or "its packed content ends early"
    elif length.isdecimal() and int(length) > before and not http.get_header("Transfer-Encoding"):
        told = told or f"{before} bytes of {length}"
    kind = page.kind or ("pdf" if MAGIC in content[:WITHIN] else "html" if content.lstrip()[:1] == b"<" else "")
    return replace(page, content=content, truncated=told, kind=kind) if kind else "no media type"
