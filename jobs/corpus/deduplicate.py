"""Leaves out documents that repeat another one, before anything is learned from them and before any is held out from
its copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import orjson

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
    def drop(self, split: str, numbers: set[int]) -> list[Document]: ...


class _Texts:
    """Documents of all splits by number, read one at a time."""

    def __init__(self, splits: Splits, stack: ExitStack) -> None:
        self.starts: dict[str, int] = {}
        self._text = splits.text
        self._offsets: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        self._files: list[IO[bytes]] = []
        number = 0
        for split in ORDER:
            file = stack.enter_context(splits.file(split).open("rb"))
            lengths = np.fromiter((len(line) for line in file), np.int64)
            self._offsets.append(np.append(0, np.cumsum(lengths)))
            self._files.append(file)
            self.starts[split] = number
            number += len(lengths)
        self.count = number

    def of(self, number: int) -> str:
        """The text of a document."""
        split = self.split_of(number)
        file, local = self._files[ORDER.index(split)], number - self.starts[split]
        file.seek(int(self._offsets[ORDER.index(split)][local]))
        return self._text(file.readline())

    def split_of(self, number: int) -> str:
        """The split of a document."""
        return next(split for split in reversed(ORDER) if number >= self.starts[split])


def deduplicate(config: Deduplicate, splits: Splits, noun: str = "documents") -> Deduplicated:
    """Leave out every document that repeats one before it; writes duplicates.jsonl with what was left out. `noun` is
    what they are called."""
    with ExitStack() as stack:
        texts = _Texts(splits, stack)
        found = Duplicates(texts.of, config.min_jaccard)
        for split in ORDER:
            for text in splits.texts(split):
                found.add(text)
        first = found.clusters()
    removed = np.flatnonzero(first != np.arange(texts.count))
    sizes = Counter(first[removed].tolist())
    lines, by_split = 0, dict.fromkeys(ORDER, 0)
    with (splits.file("train").parent / "duplicates.jsonl").open("wb") as stream:
        for split in ORDER:
            start = texts.starts[split]
            chosen = [number for number in removed.tolist() if start <= number < start + splits.documents[split]]
            documents = splits.drop(split, {number - start for number in chosen})
            for number, document in zip(chosen, documents, strict=True):
                lines, by_split[split] = lines + document.lines, by_split[split] + 1
                row = {"file": document.file, "line": document.line, "split": split, "cluster": int(first[number])}
                row |= {"same_words": number in found.copies, "text": (document.text or "")[:EXCERPT]}
                stream.write(orjson.dumps(row) + b"\n")
    counts = {
        "same_words": len(found.copies),
        "similar": len(removed) - len(found.copies),
        "clusters": len(sizes),
        "largest_cluster": max(sizes.values(), default=0) + 1 if sizes else 0,
        "splits": by_split,
    }
    sentence = (
        f"{len(removed):,} of {texts.count:,} {noun} repeat another one and are left out: {len(found.copies):,} with"
        f" the same words, {len(removed) - len(found.copies):,} similar"
    )
    return Deduplicated(counts, len(removed), lines, sentence)
