"""Parquet and Arrow files row by row, in memory for a few megabytes of text; damage costs the rows that it touches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow

from jobs.corpus.lines import Fault, check_unique, shown

BATCH_BYTES = 8 << 20
"""Text that is held as Python strings at once."""
MOST_ROWS = 1024


def parquet(
    path: Path, field: str | None, setting: str, span: tuple[int, int] | None = None
) -> Iterator[tuple[int, Any]]:
    """The rows of a Parquet file, or of its row groups [first, last) in `span`, numbered from 1."""
    import pyarrow.parquet

    try:
        # Pages one after another instead of a whole row group at once.
        file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)
        names = file.schema_arrow.names
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, "Parquet", error) from error
    _check_column(path, names, field, setting)
    before = 0
    for group in range(*(span or (0, file.num_row_groups))):
        metadata = file.metadata.row_group(group)
        size = min(MOST_ROWS, max(1, BATCH_BYTES * metadata.num_rows // max(1, metadata.total_byte_size)))
        batches = file.iter_batches(batch_size=size, row_groups=[group], columns=[field] if field else None)
        yield from _batches(batches, before, metadata.num_rows, field)
        before += metadata.num_rows


def arrow(path: Path, field: str | None, setting: str) -> Iterator[tuple[int, Any]]:
    """The rows of an Arrow file or stream, as `Dataset.save_to_disk` writes them, numbered from 1."""
    try:
        with pyarrow.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            if is_file:
                reader = pyarrow.ipc.open_file(source)
                batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            else:
                reader = batches = pyarrow.ipc.open_stream(source)
            _check_column(path, reader.schema.names, field, setting)
            before = 0
            for batch in batches:
                chosen = batch.select([field]) if field else batch
                size = min(MOST_ROWS, max(1, BATCH_BYTES * len(batch) // max(1, chosen.nbytes)))
                slices = (chosen.slice(first, size) for first in range(0, len(batch), size))
                yield from _batches(slices, before, len(batch), field)
                before += len(batch)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, "Arrow", error) from error


def _unreadable(path: Path, kind: str, error: Exception) -> ValueError:
    return ValueError(f"{shown(path)} is not a readable {kind} file ({error}); write it again")


def _check_column(path: Path, names: list[str], field: str | None, setting: str) -> None:
    if field is not None and field not in names:
        raise ValueError(f"{shown(path)} has columns {', '.join(map(str, names))}, but no '{field}'; set {setting}")
    check_unique(path, [name for name in names if field in (None, name)])


def _batches(batches: Iterator[Any], before: int, total: int, field: str | None) -> Iterator[tuple[int, Any]]:
    """The rows of `total` rows' batches, the first at `before` + 1. What cannot be read is a Fault for each row: from
    a damaged page on, all that are left."""
    read = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, MemoryError):
                raise
            reason = f"a damaged page ({str(error).splitlines()[0][:120]})"
            yield from ((before + row, Fault(reason)) for row in range(read + 1, total + 1))
            return
        for value in _values(batch, field):
            read += 1
            yield before + read, value


def _values(batch: Any, field: str | None) -> Iterator[Any]:
    """The rows of a batch; of one column as {name: value}."""
    column = batch.column(0) if field else batch
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:  # one string that is not UTF-8: row by row
        values = [_one(column.slice(row, 1)) for row in range(len(column))]
    for value in values:
        yield {field: value} if field and not isinstance(value, Fault) else value


def _one(column: Any) -> Any:
    try:
        return column.to_pylist()[0]
    except UnicodeDecodeError as error:
        return Fault(f"invalid UTF-8 ({error.reason})", ascii(error.object)[:80])
