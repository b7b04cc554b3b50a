"""The rows of a file in any format, each with its line or row number; a bad row is a `Fault` among them, never an
exception.

Rows of corpora and of records are read here alike; what a row must hold is known elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from jobs.corpus import json_keys
from jobs.corpus.lines import BLANK, Fault, excerpt, numbered_lines, open_utf8, shown
from jobs.corpus.separated import table


def rows(
    path: Path,
    kind: str,
    *,
    field: str | None = None,
    limit: int,
    encoding: str | None = None,
    setting: str = "",
    span: tuple[int, int] | None = None,
) -> Iterator[tuple[int, Any]]:
    """The rows of a jsonl, json, csv, tsv, parquet or arrow file: number and value, which is a `Fault` for a row that
    cannot be read and BLANK for an empty line. `field`: the only column that is needed, named by `setting`; a table
    without it raises ValueError, as does a file that cannot be read at all. `limit` bounds a line of jsonl or a field
    of csv, in bytes. `span`: of a jsonl file, only the lines between these bytes, of a parquet file only the row groups
    between these numbers, numbered from 1."""
    if kind == "jsonl":
        return _jsonl(path, field, limit, encoding, span)
    if kind == "json":
        return _json(path, field, encoding)
    if kind in ("csv", "tsv"):
        return table(path, kind, field, limit, encoding, setting)
    from jobs.corpus.columnar import arrow, parquet  # Arrow takes a tenth of a second to import

    return parquet(path, field, setting, span) if kind == "parquet" else arrow(path, field, setting)


def _jsonl(
    path: Path, field: str | None, limit: int, encoding: str | None, span: tuple[int, int] | None
) -> Iterator[tuple[int, Any]]:
    name = f'"{field}"'.encode() if field else None
    for number, line in numbered_lines(path, limit, encoding, span):
        if line is None:
            yield number, Fault(f"a line longer than {limit} bytes")
        elif not line.strip():
            yield number, BLANK
        else:
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                value = _lenient(line, field, error.msg)
            else:
                if name is None or line.count(name) > 1:  # orjson keeps the last one silently
                    value = _lenient(line, field, "")
            yield number, value


def _lenient(line: bytes, field: str | None, reason: str) -> Any:
    """A line as the standard library reads it, like a whole .json: with NaN, and with what UTF-8 cannot hold in some
    field, which matters only if it is the field of the text. A Fault where it is no JSON to either, or holds a key
    twice."""
    try:
        value = json_keys.loads(line.decode("utf-8", "surrogateescape").removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return Fault(f"bad JSON ({reason})", excerpt(line[:80]))
    return _once(value, field)


def _once(value: Any, field: str | None) -> Any:
    key = json_keys.repeated_key(value, field)
    return value if key is None else Fault(json_keys.sentence(key))


def _json(path: Path, field: str | None, encoding: str | None) -> Iterator[tuple[int, Any]]:
    """The items of a JSON file's array, or its one value."""
    with open_utf8(path, encoding) as stream:
        text = stream.read().decode("utf-8", "surrogateescape")
    try:
        content = json_keys.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{shown(path)} is not valid JSON ({error}); name a file with one object per line .jsonl"
        ) from error
    for number, item in enumerate(content if isinstance(content, list) else [content], 1):
        yield number, _once(item, field)
