"""What a rank leaves of one shard of a corpus: its documents, what becomes of each by rules and questions, signatures,
and counts. The file of counts is written last: without it a shard is not done.

A shard is made of the text and the settings alone, so that it is the same whoever makes it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from conf.files import write_whole
from conf.sources import HELD_OUT
from conf.stages.data import DataConfig
from jobs.corpus.extract_counts import Extracted
from jobs.corpus.ocr_counts import Recognized
from jobs.corpus.readers import Count, Document
from jobs.corpus.refetch_counts import Refetched
from jobs.corpus.sources import Part
from jobs.curation.duplicates import SIGNED
from jobs.curation.filters import Judged
from jobs.curation.leaks import Cleared
from jobs.curation.prose import Broken

FOLDER = "shards"
"""In the job's output; removed when the corpus is whole."""
TEXTS, VERDICTS, SIGNATURES, COUNTS = "texts.jsonl", "verdicts.jsonl", "signatures", "counts.json"


class Curated(NamedTuple):
    """What becomes of one document: by rules and marks, and by benchmark questions; None where nobody asked."""

    judged: Judged | None = None
    cleared: Cleared | None = None

    @property
    def removed(self) -> bool:
        """Whether it goes."""
        return bool((self.judged and self.judged.removed) or (self.cleared and self.cleared.removed))


def in_order(parts: list[Part]) -> list[Part]:
    """The parts as they are read: held-out ones first."""
    held = [part for split in HELD_OUT for part in parts if part.split == split]
    return [*held, *(part for part in parts if part.split not in HELD_OUT)]


def stamp(part: Part, config: DataConfig) -> str:
    """Stands for a shard's text and settings: one made of others is not taken for this one."""
    files = [[str(file.path), file.path.stat().st_size, file.path.stat().st_mtime_ns, file.span] for file in part.files]
    what = [config.revision, config.identity(), part.name, part.split, sorted(part.own), files]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


class Shard:
    """The files of one shard."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number

    def path(self, kind: str) -> Path:
        """A file of the shard."""
        return self._folder / f"{self._number:06}.{kind}"

    def done(self, stamped: str) -> dict[str, Any] | None:
        """The counts of a shard that is whole and made of this text; None where there is none."""
        try:
            counts: dict[str, Any] = orjson.loads(self.path(COUNTS).read_bytes())
            whole = all(self.path(kind).stat().st_size == size for kind, size in counts["sizes"].items())
        except (OSError, ValueError, KeyError):
            return None
        return counts if whole and counts["stamp"] == stamped else None

    def documents(self) -> Iterator[Document]:
        """All records in order."""
        with self.path(TEXTS).open("rb", buffering=1 << 20) as stream:
            for line in stream:
                yield Document(*orjson.loads(line))

    def verdicts(self) -> Iterator[tuple[str, int, Curated, NDArray[np.void] | None]]:
        """Of every record with a text, in order: file, line, what becomes of it, and its signature if it stays."""
        with self.path(VERDICTS).open("rb", buffering=1 << 20) as stream, self.path(SIGNATURES).open("rb") as signed:
            rows, used = np.zeros(0, SIGNED), 0
            for line in stream:
                file, number, judged, cleared, has = orjson.loads(line)
                row = None
                if has:
                    if used == len(rows):
                        rows, used = np.frombuffer(signed.read(4096 * SIGNED.itemsize), SIGNED), 0
                    row, used = rows[used : used + 1], used + 1
                yield file, number, Curated(_judged(judged), _cleared(cleared)), row


class Writer:
    """Writes a shard; `records`, `lines`, `documents` and `removed` are counts of what was written."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._stack = shard, ExitStack()
        self.records = self.lines = self.documents = self.removed = 0

    def __enter__(self) -> Writer:
        self._shard.path(COUNTS).unlink(missing_ok=True)
        self._files = {
            kind: self._stack.enter_context(self._shard.path(kind).open("wb", buffering=1 << 20))
            for kind in (TEXTS, VERDICTS, SIGNATURES)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, record: Document, curated: Curated, row: NDArray[np.void] | None) -> None:
        """The next record; one without a text has no verdict."""
        self.records, self.lines = self.records + 1, self.lines + record.lines
        values = [record.file, record.line, record.text, record.reason, record.excerpt, record.lines]
        self._files[TEXTS].write(orjson.dumps(values) + b"\n")
        if record.text is None:
            return
        self.documents, self.removed = self.documents + 1, self.removed + curated.removed
        verdict = [record.file, record.line, curated.judged, curated.cleared, row is not None]
        self._files[VERDICTS].write(orjson.dumps(verdict, default=list) + b"\n")
        if row is not None:
            self._files[SIGNATURES].write(row.tobytes())

    def close(self, stamped: str, count: Count) -> None:
        """All was read: assert that every line is accounted for, and write the counts."""
        self._stack.close()
        left = count.lines - count.blank - self.lines
        assert left == 0, f"{left} of {count.lines} lines are neither blank nor in a record"
        counts = {
            "stamp": stamped,
            "sizes": {kind: self._shard.path(kind).stat().st_size for kind in self._files},
            "records": self.records,
            "documents": self.documents,
            "removed": self.removed,
            "count": _plain(count),
        }
        write_whole(self._shard.path(COUNTS), orjson.dumps(counts, default=str).decode())


def count_of(values: dict[str, Any]) -> Count:
    """The lines of a shard, from its counts."""
    told = values["extracted"]
    recognized, refetched = Recognized(**told["recognized"]), Refetched(**told["refetched"])
    recognized.failed, refetched.failed, recognized.folder = Counter(recognized.failed), Counter(refetched.failed), None
    counters = {name: Counter(value) for name, value in told.items() if isinstance(value, dict)}
    extracted = Extracted(**told | counters | {"recognized": recognized, "refetched": refetched})
    return Count(**values | {"extracted": extracted})


def _plain(value: Any) -> Any:
    """Counts as JSON values; asdict would take a Counter for its elements."""
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return dict(value) if isinstance(value, Counter) else value


def _judged(values: Any) -> Judged | None:
    if values is None:
        return None
    removed, broken, *rest = values
    return Judged(removed, tuple(Broken(*one) for one in broken), *rest)


def _cleared(values: Any) -> Cleared | None:
    if values is None:
        return None
    removed, text, size, found, allowed = values
    return Cleared(removed, text, size, tuple(found), allowed)
