"""Leaves out documents that repeat another one, before anything is learned from them and before any is held out from
its copies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from conf.stages.data import Deduplicate
from jobs.corpus.readers import Document
from jobs.curation.duplicates import Duplicates

ORDER = ("test", "validation", "train")
"""The first document of a cluster stays: a held-out one rather than its copy in training text."""
EXCERPT = 200
"""Characters of a removed document that are kept for the report."""


@dataclass(frozen=True)
class Deduplicated:
    """What was left out: counts for statistics.json, and the lines of files that they were."""

    counts: dict[str, Any]
    documents: int
    lines: int
    sentence: str


class Splits(Protocol):
    """Documents, or records, of each split as files, one a line."""

    @property
    def documents(self) -> dict[str, int]: ...
    def file(self, split: str) -> Path: ...
    def text(self, line: bytes) -> str: ...
    def texts(self, split: str) -> Iterator[str]: ...
    def drop(self, split: str, numbers: NDArray[np.int64]) -> Iterable[Document]: ...


class Texts:
    """Documents of all splits by number, one split after another in `order`, read one at a time; 8 bytes of memory
    each."""

    def __init__(self, splits: Splits, stack: ExitStack, order: tuple[str, ...] = ORDER) -> None:
        self.starts: dict[str, int] = {}
        self._text, self._order = splits.text, order
        self._offsets: list[NDArray[np.int64]] = []
        self._files: list[IO[bytes]] = []
        number = 0
        for split in order:
            file = stack.enter_context(splits.file(split).open("rb"))
            offsets = np.fromiter(itertools.accumulate(map(len, file), initial=0), np.int64)
            self._offsets.append(offsets)
            self._files.append(file)
            self.starts[split] = number
            number += len(offsets) - 1
        self.count = number

    def of(self, number: int) -> str:
        """The text of a document."""
        place = max(place for place, split in enumerate(self._order) if number >= self.starts[split])
        file = self._files[place]
        file.seek(int(self._offsets[place][number - self.starts[self._order[place]]]))
        return self._text(file.readline())


Signatures = Callable[[str], Iterator[NDArray[np.void]]]
"""What `signed` made of the documents of a split, some at a time."""


def deduplicate(
    config: Deduplicate, splits: Splits, noun: str = "documents", signatures: Signatures | None = None
) -> Deduplicated:
    """Leave out every document that repeats one before it; writes duplicates.jsonl with what was left out. `noun` is
    what they are called; with `signatures`, what decides has been calculated."""
    folder = splits.file("train").parent
    with ExitStack() as stack:
        texts = Texts(splits, stack)
        found = Duplicates(texts.of, config.min_jaccard, folder)
        for split in ORDER:
            if signatures is not None:
                for rows in signatures(split):
                    found.add_signed(rows)
            else:
                for text in splits.texts(split):
                    found.add(text)
        first = found.clusters()
    assert len(first) == texts.count, f"{len(first)} of {texts.count} {noun} have a signature"
    removed = np.flatnonzero(first != np.arange(texts.count))
    sizes = np.unique(first[removed], return_counts=True)[1]
    lines, by_split = 0, dict.fromkeys(ORDER, 0)
    with (folder / "duplicates.jsonl").open("wb") as stream:
        for split in ORDER:
            start = texts.starts[split]
            chosen = removed[(removed >= start) & (removed < start + splits.documents[split])]
            for number, document in zip(chosen.tolist(), splits.drop(split, chosen - start), strict=True):
                lines, by_split[split] = lines + document.lines, by_split[split] + 1
                row = {"file": document.file, "line": document.line, "split": split, "cluster": int(first[number])}
                row |= {"same_words": bool(found.copies[number]), "text": (document.text or "")[:EXCERPT]}
                stream.write(orjson.dumps(row) + b"\n")
    same = int(found.copies.sum())
    counts = {
        "same_words": same,
        "similar": len(removed) - same,
        "clusters": len(sizes),
        "largest_cluster": int(sizes.max(initial=0)) + 1 if len(sizes) else 0,
        "splits": by_split,
    }
    sentence = (
        f"{len(removed):,} of {texts.count:,} {noun} repeat another one and are left out: {same:,} with"
        f" the same words, {len(removed) - same:,} similar"
    )
    return Deduplicated(counts, len(removed), lines, sentence)
