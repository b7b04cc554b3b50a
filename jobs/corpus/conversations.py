"""Prompts and responses from files and generators, each as one list of messages; a bad row is data, never an
exception."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from conf.stages.data import World
from conf.stages.records import GENERATED
from jobs.corpus.messages import BadRow, Message, Reading, messages_of
from jobs.corpus.readers import Count, excerpt, json_values, numbered_lines
from jobs.corpus.sources import WORLD, local_files

SUFFIXES = (".jsonl", ".json", ".parquet")
MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Conversation:
    """`messages`, or None with the `reason` the row cannot be used; `unread` names the row's fields of no use."""

    file: str
    line: int
    messages: list[Message] | None
    reason: str = ""
    excerpt: str = ""
    lines: int = 1
    unread: tuple[str, ...] = ()


def gather(
    sources: tuple[str, ...], reading: Reading, *, setting: str, world: World | None, generated: Path | None = None
) -> Iterator[Conversation]:
    """Every conversation in `sources`, the value of the config field `setting`."""
    count = Count()
    for source in sources:
        if source == WORLD:
            assert world is not None, "the flow passes the world"
            yield from _world(world, reading)
            continue
        if source == GENERATED:
            assert generated is not None, "the flow passes the generated records"
            files: list[Path] | None = [generated / "records.jsonl"]
        else:
            files = local_files(source, SUFFIXES if reading.responses else (*SUFFIXES, ".txt"), setting)
        if files is None:
            raise ValueError(
                f"{setting} names {source}, which is not a local file; give a {', '.join(SUFFIXES)} file or a folder of"
                " them"
            )
        for file in files:
            yield from read(file, reading, count)


def _world(world: World, reading: Reading) -> Iterator[Conversation]:
    from jobs.world.chat import conversations

    for number, messages in enumerate(conversations(world), 1):
        yield conversation({"messages": messages}, reading, WORLD, number)


def read(path: Path, reading: Reading, count: Count) -> Iterator[Conversation]:
    """The conversations of one local file, by its suffix (.gz is decompressed). Raises ValueError where the file as a
    whole cannot be read."""
    try:
        for line, value in _rows(path, count):
            if isinstance(value, BadRow):
                yield Conversation(str(path), line, None, str(value))
            else:
                yield conversation(value, reading, str(path), line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a complete gzip file ({error}); fetch or compress it again") from error


def conversation(value: Any, reading: Reading, file: str, line: int) -> Conversation:
    """One row as a conversation."""
    try:
        messages, unread = messages_of(value, reading)
    except BadRow as error:
        return Conversation(file, line, None, str(error), excerpt(value))
    return Conversation(file, line, messages, unread=tuple(unread))


def _rows(path: Path, count: Count) -> Iterator[tuple[int, Any]]:
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    if suffix in (".jsonl", ".txt"):
        for number, line in numbered_lines(path, MAX_LINE_BYTES):
            count.lines += 1
            if line is None:
                yield number, BadRow(f"a line longer than {MAX_LINE_BYTES} bytes")
            elif not line.strip():
                count.blank += 1
            elif suffix == ".txt":
                yield number, {"prompt": line.decode(errors="surrogateescape").strip()}
            else:
                try:
                    yield number, orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    yield number, BadRow(f"bad JSON ({error.msg})")
        return
    for number, value in enumerate(json_values(path) if suffix == ".json" else _parquet(path), 1):
        count.lines += 1
        yield number, value


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a readable Parquet file ({error}); write it again") from error
    for batch in file.iter_batches(batch_size=1024):
        yield from batch.to_pylist()
