"""Puts the shards of all ranks together: their documents and verdicts in the order of the text, as if one process had
read it all, whatever the number of ranks. Nothing is held but a few documents."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.stages.data import DataConfig
from jobs.corpus import shards
from jobs.corpus.readers import Count, Document
from jobs.corpus.shards import Curated, Shard
from jobs.corpus.sources import parts
from jobs.corpus.splits import Splits
from jobs.curation.duplicates import CHUNK, SIGNED
from jobs.curation.filters import Judged
from jobs.curation.leaks import Cleared


class Merge:
    """The shards of a corpus, all there. Raises RuntimeError where one is missing, which a rank has not made."""

    def __init__(self, config: DataConfig, output: Path, notes: list[str]) -> None:
        planned = shards.in_order(parts(config, notes, cut=True))
        self._shards = [Shard(output / shards.FOLDER, number) for number in range(len(planned))]
        self._counts: list[dict[str, Any]] = []
        self._before: list[int] = []
        lines: defaultdict[str, int] = defaultdict(int)
        for number, (part, shard) in enumerate(zip(planned, self._shards, strict=True)):
            counts = shard.done(shards.stamp(part, config))
            if counts is None:
                raise RuntimeError(f"shard {number + 1} of {len(planned)} ({part.name}) is missing; run the same again")
            self._counts.append(counts)
            cut = bool(part.files) and part.files[0].span is not None
            self._before.append(lines[part.name] if cut else 0)
            lines[part.name] += counts["count"]["lines"]
        self.parts = [replace(part, read=functools.partial(self._read, number)) for number, part in enumerate(planned)]

    def _read(self, number: int, count: Count) -> Iterator[Document]:
        """The records of a shard, at their lines of the file."""
        counts, before, records, lines = self._counts[number], self._before[number], 0, 0
        for record in self._shards[number].documents():
            records, lines = records + 1, lines + record.lines
            yield replace(record, line=record.line + before) if before else record
        own = shards.count_of(counts["count"])
        assert records == counts["records"], f"shard {number + 1} has {records} records, {counts['records']} were read"
        assert own.lines == own.blank + lines, f"shard {number + 1} has {own.lines} lines, {lines} are in records"
        count.add(own)

    def assert_conserved(self, count: Count, records: int) -> None:
        """What was read is what all ranks have read."""
        for what, whole in (("lines", count.lines), ("blank", count.blank)):
            ranks = sum(counts["count"][what] for counts in self._counts)
            assert ranks == whole, f"{whole} {what} are merged, ranks have read {ranks}"
        read = sum(counts["records"] for counts in self._counts)
        assert read == records, f"{records} records are merged, ranks have read {read}"

    def judged(self, split: str, splits: Splits) -> Iterator[Judged]:
        """What filters and marks say of each document of a split."""
        for curated, _ in self._of(split, splits):
            assert curated.judged is not None
            yield curated.judged

    def cleared(self, split: str, splits: Splits) -> Iterator[Cleared]:
        """What is done with the benchmark questions in each document of a split."""
        for curated, _ in self._of(split, splits):
            assert curated.cleared is not None
            yield curated.cleared

    def signatures(self, splits: Splits) -> Callable[[str], Iterator[NDArray[np.void]]]:
        """What `signed` made of the documents of a split, some thousand at a time."""

        def of(split: str) -> Iterator[NDArray[np.void]]:
            waiting: list[NDArray[np.void]] = []
            for _, row in self._of(split, splits):
                assert row is not None
                waiting.append(row)
                if len(waiting) * SIGNED.itemsize >= CHUNK * 8:
                    yield np.concatenate(waiting)
                    waiting.clear()
            if waiting:
                yield np.concatenate(waiting)

        return of

    def _of(self, split: str, splits: Splits) -> Iterator[tuple[Curated, NDArray[np.void] | None]]:
        """The verdicts on the documents of a split. Their order is that in which the text was read."""
        verdicts = self._verdicts()
        for file, line, _ in splits.places(split):
            yield next((curated, row) for name, place, curated, row in verdicts if (name, place) == (file, line))

    def _verdicts(self) -> Iterator[tuple[str, int, Curated, NDArray[np.void] | None]]:
        for shard, before in zip(self._shards, self._before, strict=True):
            for file, line, curated, row in shard.verdicts():
                yield file, line + before, curated, row
