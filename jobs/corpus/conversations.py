"""Prompts and responses from files and generators, each as one list of messages; a bad row is data, never an
exception."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conf.content import whole
from conf.sources import HELD_OUT, TABLES, TEXT, SourceFile, is_local, select
from conf.stages.data import World
from conf.stages.records import GENERATED
from conf.text_encoding import advice
from jobs.corpus.lines import BLANK, Fault, excerpt, numbered_lines, sample_of, shown
from jobs.corpus.messages import BadRow, Message, Reading, messages_of
from jobs.corpus.readers import NOT_UTF8
from jobs.corpus.rows import rows
from jobs.corpus.sources import WORLD

MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Conversation:
    """`messages`, or None with the `reason` the row cannot be used; `unread` names the row's fields of no use; `split`
    is that of its file, if its source has splits, which are `own`."""

    file: str
    line: int
    messages: list[Message] | None
    reason: str = ""
    excerpt: str = ""
    lines: int = 1
    unread: tuple[str, ...] = ()
    split: str | None = None
    own: frozenset[str] = frozenset()


def gather(
    sources: tuple[str, ...],
    reading: Reading,
    *,
    setting: str,
    world: World | None,
    generated: Path | None = None,
    limit: int | None = None,
) -> Iterator[Conversation]:
    """Every conversation in `sources`, the value of the config field `setting`; at most `limit` of each split that
    sources have, and of those without. Of each source the held-out splits come first."""
    read_of = Counter[str | None]()
    for source in sources:
        if source == WORLD:
            assert world is not None, "the flow passes the world"
            for one in itertools.islice(_world(world, reading), _left(limit, read_of[None])):
                read_of[None] += 1
                yield one
            continue
        if source == GENERATED:
            assert generated is not None, "the flow passes the generated records"
            files = [SourceFile(generated / "records.jsonl", "jsonl")]
        elif is_local(source):
            selection = select(source, setting, TABLES if reading.responses else TEXT)
            if selection.left_out:
                print(f"left out of {source}: {selection.out()}")
            files = selection.files
        else:
            raise ValueError(
                f"{setting} names {source}, which is not a local file; give a .jsonl, .json, .csv, .tsv, .parquet or"
                " .arrow file or a folder of them"
            )
        own = frozenset(file.split for file in files if file.split)
        for file in sorted(files, key=lambda file: file.split not in HELD_OUT):
            for found in itertools.islice(read(file, reading, setting), _left(limit, read_of[file.split])):
                read_of[file.split] += 1
                yield replace(found, split=file.split, own=own) if own else found


def _left(limit: int | None, read: int) -> int | None:
    return None if limit is None else max(0, limit - read)


def _world(world: World, reading: Reading) -> Iterator[Conversation]:
    from jobs.world.chat import conversations

    for number, messages in enumerate(conversations(world), 1):
        yield conversation({"messages": messages}, reading, WORLD, number)


def read(file: SourceFile, reading: Reading, setting: str) -> Iterator[Conversation]:
    """The conversations of one local file; a compressed one is unpacked. Raises ValueError where the file as a whole
    cannot be read."""
    name, advised = shown(file.path), None
    with whole(file.path):
        for line, value in _rows(file, reading):
            if isinstance(value, BadRow):
                found = Conversation(name, line, None, str(value))
            else:
                found = conversation(value, reading, name, line)
            if NOT_UTF8 in found.reason and not reading.encoding:
                if advised is None:
                    advised = advice(sample_of(file.path), f"{setting.partition('.')[0]}.encoding")
                found = replace(found, reason=found.reason + advised)
            yield found


def conversation(value: Any, reading: Reading, file: str, line: int) -> Conversation:
    """One row as a conversation."""
    try:
        messages, unread = messages_of(value, reading)
    except BadRow as error:
        return Conversation(file, line, None, str(error), excerpt(value))
    return Conversation(file, line, messages, unread=tuple(unread))


def _rows(file: SourceFile, reading: Reading) -> Iterator[tuple[int, Any]]:
    path = file.path
    if file.format == "text":
        for number, line in numbered_lines(path, MAX_LINE_BYTES, reading.encoding):
            if line is None:
                yield number, BadRow(f"a line longer than {MAX_LINE_BYTES} bytes")
            elif line.strip():
                yield number, {"prompt": line.decode(errors="surrogateescape").strip()}
        return
    for number, value in rows(path, file.format, limit=MAX_LINE_BYTES, encoding=reading.encoding):
        if value is not BLANK:
            yield number, BadRow(value.reason) if isinstance(value, Fault) else value
