"""Reads text files of several formats as records, each with its position in its file; a bad record is data, never an
exception.

A record becomes one document: a JSON, CSV or Parquet row, a line, or a block of lines (`join`)."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from conf.stages.data import DataConfig

SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".parquet")
HEADING = re.compile(rb"^ = [^=].* = \s*$")
"""A WikiText article's title; section titles have more equals signs."""


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
    """Lines of input, and how many of them were blank."""

    lines: int = 0
    blank: int = 0


def read_file(path: Path, config: DataConfig, count: Count) -> Iterator[Document]:
    """The records of one local file, by its suffix (.gz is decompressed). Raises ValueError where the file as a whole
    cannot be read."""
    try:
        yield from _records(path, config, count)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a complete gzip file ({error}); fetch or compress it again") from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a readable CSV file ({error}); write it again") from error


def _records(path: Path, config: DataConfig, count: Count) -> Iterator[Document]:
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    limit = config.max_document_bytes
    if suffix == ".parquet":
        return documents_of(_parquet(path, config.text_field), str(path), config, count)
    if suffix == ".csv":
        return documents_of(_csv(path, config.text_field), str(path), config, count)
    if suffix == ".json":
        return documents_of(json_values(path), str(path), config, count)
    if suffix == ".jsonl":
        return _jsonl(path, config, count)
    return join_lines(numbered_lines(path, limit), _style(path, config), str(path), limit, count)


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
    if not isinstance(value, dict):
        return Document(file, line, None, f"not an object but {type(value).__name__}", excerpt(value))
    if config.text_field not in value:
        return Document(file, line, None, f"no field '{config.text_field}'", excerpt(value))
    text = value[config.text_field]
    if not isinstance(text, str):
        return Document(
            file, line, None, f"field '{config.text_field}' is {type(text).__name__}, not a string", excerpt(value)
        )
    return _check(text, file, line, config.max_document_bytes) if text.strip() else None


def _document(block: list[tuple[int, bytes | None]], style: str, file: str, limit: int) -> Document:
    first, count = block[0][0], len(block)
    if any(line is None for _, line in block):
        return Document(file, first, None, f"longer than max_document_bytes {limit}", "", count)
    separator = "\n\n" if style == "spaced" else "\n"
    try:
        text = separator.join((line or b"").decode().strip("\r\n") for _, line in block)
    except UnicodeDecodeError as error:
        return Document(file, first, None, f"invalid UTF-8 ({error.reason})", excerpt(block[0][1]), count)
    return _check(text.strip(), file, first, limit, count)


def _check(text: str, file: str, line: int, limit: int, lines: int = 1) -> Document:
    if "\x00" in text:
        return Document(file, line, None, "contains NUL", excerpt(text), lines)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return Document(file, line, None, "contains a lone surrogate, which UTF-8 cannot hold", excerpt(text), lines)
    if size > limit:
        return Document(file, line, None, f"{size} bytes, longer than max_document_bytes {limit}", excerpt(text), lines)
    return Document(file, line, text, lines=lines)


def excerpt(value: Any) -> str:
    """At most 80 ASCII characters of a value."""
    return ascii(value)[:80]


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def numbered_lines(path: Path, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines; one longer than `limit` is skipped in pieces and yielded as None, so that it never fills
    memory."""
    with _open(path) as stream:
        number = 0
        while line := stream.readline(limit + 2):
            number += 1
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.endswith(b"\n") or len(line) < limit + 2:
                yield number, line
                continue
            while (piece := stream.readline(1 << 20)) and not piece.endswith(b"\n"):
                pass
            yield number, None


def _style(path: Path, config: DataConfig) -> str:
    if config.join != "auto":
        return config.join
    with _open(path) as stream:
        return "wikitext" if any(HEADING.match(line) for line in stream.readlines(1 << 18)) else "line"


def _jsonl(path: Path, config: DataConfig, count: Count) -> Iterator[Document]:
    # A JSON line may be longer than its text: an escape takes up to six bytes per byte.
    for number, line in numbered_lines(path, 6 * config.max_document_bytes + 4096):
        count.lines += 1
        if line is None:
            yield Document(str(path), number, None, f"longer than max_document_bytes {config.max_document_bytes}")
            continue
        if not line.strip():
            count.blank += 1
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield Document(str(path), number, None, f"bad JSON ({error.msg})", excerpt(line[:80]))
            continue
        record = row(value, str(path), number, config)
        if record is None:
            count.blank += 1
        else:
            yield record


def documents_of(values: Iterable[Any], file: str, config: DataConfig, count: Count) -> Iterator[Document]:
    """A document for each row that holds text; all rows are counted."""
    for number, value in enumerate(values, 1):
        count.lines += 1
        record = row(value, file, number, config)
        if record is None:
            count.blank += 1
        else:
            yield record


def _csv(path: Path, field: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 30)
    # Undecodable bytes become lone surrogates, which `_check` rejects by row. Spreadsheets write a byte-order mark.
    with io.TextIOWrapper(_open(path), encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.DictReader(stream)
        if field not in (reader.fieldnames or ()):
            raise ValueError(f"{path} has columns {reader.fieldnames}, but no '{field}'; set data.text_field")
        yield from reader


def _parquet(path: Path, field: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a readable Parquet file ({error}); write it again") from error
    if field not in file.schema_arrow.names:
        raise ValueError(f"{path} has columns {file.schema_arrow.names}, but no '{field}'; set data.text_field")
    for batch in file.iter_batches(columns=[field]):
        for value in batch.column(0).to_pylist():
            yield {field: value}


def json_values(path: Path) -> Iterator[Any]:
    """The items of a JSON file's array, or its one value."""
    try:
        with _open(path) as stream:
            content = json.loads(stream.read())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); name a file with one object per line .jsonl") from error
    yield from content if isinstance(content, list) else [content]
