"""Reads text files of several formats as records, each with its position in its file; a bad record is data, never an
exception.

A record becomes one document: a JSON, CSV or Parquet row, a line, or a block of lines (`join`)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from conf.content import whole
from conf.sources import SourceFile
from conf.stages.data import DataConfig
from conf.text_encoding import advice
from jobs.corpus.extract_counts import Extracted
from jobs.corpus.lines import BLANK, Fault, excerpt, numbered_lines, open_lines, sample_of, shown
from jobs.corpus.quarantine import Unusable
from jobs.corpus.rows import rows

HEADING = re.compile(rb"^ = [^=].* = \s*$")
"""A WikiText article's title; section titles have more equals signs."""
NO_FIELD = "no field"
"""How the reason of a record starts that lacks the field of the text; its excerpt lists the fields it has."""
NOT_UTF8 = "invalid UTF-8"
"""How the reason of a record starts whose bytes are not UTF-8."""
PEEKED, PEEKED_CHARACTERS = 1000, 1 << 20
"""Most rows and characters that are looked at to see whether rows are lines or documents."""


@dataclass(frozen=True, slots=True)
class Document:
    """`text`, or None with the `reason` it cannot be used and a short `excerpt`; made from `lines` input lines."""

    file: str
    line: int
    text: str | None
    reason: str = ""
    excerpt: str = ""
    lines: int = 1


@dataclass(slots=True)
class Count:
    """Lines of input, and how many of them were blank; a file that text is extracted from counts as one. Of the
    documents, how many were `repaired`."""

    lines: int = 0
    blank: int = 0
    repaired: int = 0
    extracted: Extracted = field(default_factory=Extracted)

    def add(self, other: Count) -> None:
        """Count what another process has read after this."""
        self.lines, self.blank, self.repaired = (
            self.lines + other.lines,
            self.blank + other.blank,
            self.repaired + other.repaired,
        )
        self.extracted.join(other.extracted)


def read_file(file: SourceFile, config: DataConfig, count: Count) -> Iterator[Document]:
    """The records of one local file; a compressed one is unpacked. Raises ValueError where the file as a whole cannot
    be read."""
    advised: str | None = None
    with whole(file.path):
        for record in _records(file, config, count):
            if record.text is not None or not record.reason.startswith(NOT_UTF8):
                yield record
            elif config.encoding:
                yield replace(record, reason=record.reason.replace(NOT_UTF8, f"not {config.encoding}"))
            else:
                advised = advice(sample_of(file.path), "data.encoding") if advised is None else advised
                yield replace(record, reason=record.reason + advised)


def _records(file: SourceFile, config: DataConfig, count: Count) -> Iterator[Document]:
    limit, path = config.max_document_bytes, file.path
    if file.format == "text":
        lines = numbered_lines(path, limit, config.encoding, file.span)
        return join_lines(lines, _style(path, config), shown(path), limit, count)
    # A JSON line may be longer than its text: an escape takes up to six bytes per byte.
    values = rows(
        path,
        file.format,
        field=config.text_field,
        limit=6 * limit + 4096,
        encoding=config.encoding,
        setting="data.text_field",
        span=file.span,
    )
    return documents_of(values, shown(path), config, count, joins=("wikitext",))


def reads_line_by_line(file: SourceFile, config: DataConfig) -> bool:
    """Whether each line of a text or JSON lines file, or row of a Parquet file, is a document."""
    if file.format == "text":
        return _style(file.path, config) == "line"
    field = config.text_field if file.format == "parquet" else None  # all that is read of a table
    values = rows(
        file.path, file.format, field=field, limit=6 * config.max_document_bytes + 4096, encoding=config.encoding
    )
    return _row_style(values, config, ("wikitext",))[0] == "line"


def join_lines(
    lines: Iterable[tuple[int, bytes | None]], style: str, file: str, limit: int, count: Count
) -> Iterator[Document]:
    """Group numbered lines into documents by `style`; an overlong line arrives as None and makes its document
    unusable."""
    block: list[tuple[int, bytes | None]] = []
    after_blank = False
    for number, line in lines:
        count.lines += 1
        # A line of no-break spaces is blank too, which only shows once it is decoded.
        blank = line is not None and not (line.strip() and line.decode(errors="replace").strip())
        if blank:
            count.blank += 1
        starts_new = {
            "line": True,
            "paragraph": blank,
            "spaced": bool(block) and not blank and not after_blank,
            "wikitext": line is not None and bool(HEADING.match(line)),
            "file": False,
        }[style]
        if starts_new and block:
            yield _document(block, style, file, limit)
            block = []
        after_blank = blank
        if not blank:
            block.append((number, line))
    if block:
        yield _document(block, style, file, limit)


def row(value: Any, file: str, line: int, config: DataConfig) -> Document | None:
    """One structured row as a record; None where its text is blank."""
    if isinstance(value, Fault):
        return Document(file, line, None, value.reason, value.excerpt)
    if not isinstance(value, dict):
        return Document(file, line, None, f"not an object but {type(value).__name__}", excerpt(value))
    if config.text_field not in value:
        return Document(
            file, line, None, f"{NO_FIELD} '{config.text_field}'", excerpt(", ".join(map(str, value)))[1:-1]
        )
    text = value[config.text_field]
    if isinstance(text, bytes):  # a Parquet column of strings that is not marked as one
        text = text.decode("utf-8", "surrogateescape")
    if not isinstance(text, str):
        return Document(
            file, line, None, f"field '{config.text_field}' is {type(text).__name__}, not a string", excerpt(value)
        )
    return checked(text, file, line, config.max_document_bytes) if text.strip() else None


def advice_on_field(record: Unusable) -> str:
    """The fields that a record has which lacks the one of the text, and the setting that names another."""
    return f", only {record.excerpt or 'none'}: set data.text_field" if record.reason.startswith(NO_FIELD) else ""


def _document(block: list[tuple[int, bytes | None]], style: str, file: str, limit: int) -> Document:
    first, count = block[0][0], len(block)
    if any(line is None for _, line in block):
        return Document(file, first, None, f"longer than max_document_bytes {limit}", "", count)
    separator = "\n\n" if style == "spaced" else "\n"
    try:
        text = separator.join((line or b"").decode().strip("\r\n") for _, line in block)
    except UnicodeDecodeError as error:
        return Document(file, first, None, f"{NOT_UTF8} ({error.reason})", excerpt(block[0][1]), count)
    return checked(text.strip(), file, first, limit, count)


def checked(text: str, file: str, line: int, limit: int, lines: int = 1) -> Document:
    """A document, or the reason why it cannot be one."""
    if "\x00" in text:
        return Document(file, line, None, "contains NUL", excerpt(text), lines)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        if "\udc80" <= text[error.start] <= "\udcff":  # how Python holds a byte that it could not decode
            return Document(
                file, line, None, f"{NOT_UTF8} (byte 0x{ord(text[error.start]) - 0xDC00:02x})", excerpt(text), lines
            )
        return Document(file, line, None, "contains a lone surrogate, which UTF-8 cannot hold", excerpt(text), lines)
    if size > limit:
        return Document(file, line, None, f"{size} bytes, longer than max_document_bytes {limit}", excerpt(text), lines)
    return Document(file, line, text, lines=lines)


def _style(path: Path, config: DataConfig) -> str:
    if config.join != "auto":
        return config.join
    with open_lines(path, config.encoding) as stream:
        return "wikitext" if any(HEADING.match(line) for line in stream.readlines(1 << 18)) else "line"


def documents_of(
    values: Iterable[tuple[int, Any]], file: str, config: DataConfig, count: Count, joins: Collection[str]
) -> Iterator[Document]:
    """A document for each numbered row that holds text, all rows counted; rows that are single lines are joined where
    `config.join` asks for one of `joins`, or for wikitext where it finds the headings."""
    style, values = _row_style(iter(values), config, joins)
    if style != "line":
        yield from join_lines(_as_lines(values, config), style, file, config.max_document_bytes, count)
        return
    for number, value in values:
        count.lines += 1
        record = None if value is BLANK else row(value, file, number, config)
        if record is None:
            count.blank += 1
        else:
            yield record


def _row_style(
    values: Iterator[tuple[int, Any]], config: DataConfig, joins: Collection[str]
) -> tuple[str, Iterator[tuple[int, Any]]]:
    """How rows become documents, by the first of them, and all rows."""
    wanted = "wikitext" if config.join == "auto" else config.join
    if wanted == "line" or wanted not in joins:
        return "line", values
    first: list[tuple[int, Any]] = []
    characters, headed = 0, config.join != "auto"
    for number, value in itertools.islice(values, PEEKED):
        first.append((number, value))
        text = value.get(config.text_field) if isinstance(value, dict) else None
        if not isinstance(text, str):
            continue
        if "\n" in text.strip():
            return "line", itertools.chain(first, values)
        headed = headed or bool(HEADING.match(text.encode("utf-8", "replace")))
        if (characters := characters + len(text)) > PEEKED_CHARACTERS:
            break
    return wanted if headed else "line", itertools.chain(first, values)


def _as_lines(values: Iterator[tuple[int, Any]], config: DataConfig) -> Iterator[tuple[int, bytes]]:
    for number, value in values:
        text = value.get(config.text_field) if isinstance(value, dict) else "" if value is BLANK else None
        # Anything but text is made undecodable on purpose, so that its document is rejected and counted.
        yield number, text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b"\xff"
