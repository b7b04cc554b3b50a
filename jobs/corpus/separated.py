"""Tables of text, as spreadsheets write them (CSV, TSV): every fault at its line of the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.corpus.lines import BLANK, Fault, check_unique, excerpt, open_utf8, shown

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def table(
    path: Path, kind: str, field: str | None, limit: int, encoding: str | None, setting: str
) -> Iterator[tuple[int, Any]]:
    """The rows after the header, each with the line on which it starts. A row with more fields than the header, or
    whose quotes do not match, is a Fault for each of its lines; a quote that is never closed reaches `limit` bytes."""
    csv.field_size_limit(max(limit, 1 << 17))
    # Undecodable bytes become lone surrogates, so that only rows whose text has them are rejected.
    with io.TextIOWrapper(open_utf8(path, encoding), encoding="utf-8", errors="surrogateescape", newline="") as stream:
        separator, names, before, padded = _header(path, stream, "\t" if kind == "tsv" else ",", field, setting)
        reader = csv.reader(stream, delimiter=separator, strict=True, skipinitialspace=padded)
        start = 0
        while True:
            start = reader.line_num
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                reason = f"the row of lines {before + start + 1} to {before + reader.line_num}: {error}"
                yield from ((before + line, Fault(reason)) for line in range(start + 1, reader.line_num + 1))
                continue
            yield before + start + 1, _row(names, values)


def _row(names: list[str], values: list[str]) -> Any:
    if not values:
        return BLANK
    if len(values) > len(names):
        return Fault(
            f"{len(values)} fields but the header has {len(names)} (a separator outside quotes?)", excerpt(values)
        )
    return dict(zip(names, values, strict=False))


def _header(
    path: Path, stream: io.TextIOWrapper, usual: str, field: str | None, setting: str
) -> tuple[str, list[str], int, bool]:
    """Separator, column names, lines read, and whether fields are padded with spaces. The separator is the usual one,
    that of a first line sep=;, or, where the header only then has the field, another one."""
    line, read = stream.readline(), 1
    separators = [usual, *(other for other in SEPARATORS if other != usual)]
    if line.lower().startswith("sep=") and len(line.strip("\r\n")) == 5:
        separators = [line[4]]
        line, read = stream.readline(), 2
    while line.count('"') % 2 and (more := stream.readline()):  # a column's name over several lines
        line, read = line + more, read + 1
    for separator in separators:
        names = next(csv.reader(io.StringIO(line, newline=""), delimiter=separator, skipinitialspace=True), [])
        stripped = [name.strip() for name in names]
        if field in stripped or (field is None and len(names) > 1):
            check_unique(path, [name for name in stripped if field in (None, name)])
            padded = any(name != name.strip() for name in next(csv.reader([line], delimiter=separator)))
            return separator, stripped, read, padded
    columns = next(csv.reader(io.StringIO(line, newline=""), delimiter=separators[0]), [])
    if field is None:
        check_unique(path, columns)
        return separators[0], columns, read, False
    shown_columns = ", ".join(ascii(name)[1:-1][:80] for name in columns[:20]) or "none"
    raise ValueError(
        f"{shown(path)} has the columns {shown_columns}, separated by {SEPARATORS.get(separators[0], separators[0])},"
        f" but no '{field}'; set {setting}"
    )
