"""One rank's share of a corpus: reads its shards and works out, document by document, what filters, marks, benchmark
questions and duplicates have to say. What is decided by all documents together is left to the data job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.sources import HELD_OUT
from conf.stages.data import DataConfig
from jobs.corpus import shards
from jobs.corpus.collect import check_ocr, repaired
from jobs.corpus.each import BATCH_BYTES, in_processes
from jobs.corpus.readers import Count, Document
from jobs.corpus.shards import Curated, Shard, Writer
from jobs.corpus.sources import Part, parts, split_of
from jobs.curation.duplicates import TOGETHER, signed
from jobs.curation.filters import Judge
from jobs.curation.leaks import Clearing

Verdict = tuple[Curated, NDArray[np.void] | None]


class Curator:
    """Decides about documents, given as texts with their splits, whatever the others are."""

    def __init__(self, config: DataConfig, clearing: Clearing | None) -> None:
        self._judge = Judge(config.filter, config.pii) if config.filter or config.pii else None
        self._clearing, self._again = clearing, config.deduplicate

    def __call__(self, documents: list[tuple[str, str] | None]) -> list[Verdict]:
        """What becomes of each; nothing of a record without a text (None)."""
        curated, left = list[Curated](), dict[int, str]()
        for number, document in enumerate(documents):
            one, text = (Curated(), "") if document is None else self._one(*document)
            curated.append(one)
            if document is not None and not one.removed:
                left[number] = text
        rows: dict[int, NDArray[np.void]] = {}
        if self._again is not None:
            numbers = list(left)
            for start in range(0, len(numbers), TOGETHER):
                some = numbers[start : start + TOGETHER]
                table = signed([left[number] for number in some], self._again.min_jaccard is not None)
                rows |= {number: table[place : place + 1] for place, number in enumerate(some)}
        return [(one, rows.get(number)) for number, one in enumerate(curated)]

    def _one(self, text: str, split: str) -> tuple[Curated, str]:
        """The verdict on a document, and what is left of its text."""
        judged = self._judge(text) if self._judge else None
        text = text if judged is None or judged.text is None else judged.text
        if self._clearing is None or split != "train" or (judged and judged.removed):
            return Curated(judged), text
        cleared = self._clearing(text)
        return Curated(judged, cleared), text if cleared.text is None else cleared.text


def curate(
    config: DataConfig, output: Path, rank: int, curator: Curator, workers: int
) -> Iterator[tuple[int, int, bool, dict[str, Any]]]:
    """Make the shards of `rank`, those that are there already left as they are: number, how many there are of all
    ranks, whether it was made now, and its counts. Raises ValueError where a source cannot be read."""
    config = config.model_copy(update={"workers": workers})
    planned = shards.in_order(parts(config, [], cut=True))
    folder = output / shards.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(rank, len(planned), config.ranks):
        part, shard = planned[number], Shard(folder, number)
        stamped = shards.stamp(part, config)
        counts = shard.done(stamped)
        if made := counts is None:
            _make(part, shard, stamped, config, output, curator, workers)
            counts = shard.done(stamped)
            assert counts is not None, f"shard {number} was not written completely"
        yield number, len(planned), made, counts


def _make(
    part: Part, shard: Shard, stamped: str, config: DataConfig, output: Path, curator: Curator, workers: int
) -> None:
    count = Count()
    check_ocr(config, count, output)
    count.extracted.refetched.kept = []
    with Writer(shard) as writer:
        batches = _batches(repaired(part.read(count), config, count))
        asked = ((batch, _asked(batch, part, config)) for batch in batches)
        for batch, verdicts in in_processes(curator, asked, workers):
            for record, (curated, row) in zip(batch, verdicts, strict=True):
                writer.add(record, curated, row)
        writer.close(stamped, count)


def _batches(records: Iterator[Document]) -> Iterator[list[Document]]:
    batch, size = list[Document](), 0
    for record in records:
        batch.append(record)
        size += len(record.text or "")
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _asked(batch: list[Document], part: Part, config: DataConfig) -> list[tuple[str, str] | None]:
    """Texts with the splits that they fall into."""
    return [
        None
        if record.text is None
        else (record.text, str(part.split) if part.split in HELD_OUT else split_of(record.text, config, part.own))
        for record in batch
    ]
