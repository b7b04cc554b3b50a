"""Finds documents that repeat earlier ones, exactly or nearly.

Near duplicates share most of their runs of five words. MinHash signatures in 14 bands of 8 propose pairs (at a Jaccard
index of 0.8 all but 8% of pairs share a band, at 0.9 all but one in ten thousand), and each proposed pair is compared
in full, so that no document is removed for a similarity that it does not have. The first document of a cluster stays,
whatever the number of workers."""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from jobs.curation.words import fold, ngrams, words_of

NGRAM = 5
BANDS, ROWS = 14, 8
_CHANCE = np.random.default_rng(20_260)
FACTORS = _CHANCE.integers(1 << 63, size=BANDS * ROWS, dtype=np.uint64) | np.uint64(1)
SHIFTS = _CHANCE.integers(1 << 63, size=BANDS * ROWS, dtype=np.uint64)
PART = 1024
"""Runs of words hashed at once: 112 hashes of each are held, 8 bytes apiece."""
TOGETHER = 64
"""Documents hashed together."""
DIGEST = np.dtype([("first", "<u8"), ("rest", "<u4")])
SIGNED = np.dtype([("digest", "V12"), ("words", "?"), ("bands", "<u8", BANDS)])
"""Of a document: the digest of its words, whether it has any, and a hash of each band of its signature."""
SORTED = 1 << 20
"""Documents sorted at once, in about 40 bytes each."""
CHUNK = 1 << 16
"""Entries of a file read at once."""
KNOWN_RUNS = 1 << 22
"""Hashes of runs that are kept while pairs are compared, 8 bytes each."""


def digest(text: str, words: list[str]) -> bytes:
    """Equal for texts with the same words, whatever their case, punctuation and white space; that of the text itself
    where it has no words."""
    return hashlib.blake2b(" ".join(words).encode() or text.encode(), digest_size=12).digest()


def shingles(words: list[str]) -> NDArray[np.uint64]:
    """Hashes of the different runs of five words [n], sorted; one hash of all words where there are fewer."""
    if not words:
        return np.empty(0, np.uint64)
    ids = np.fromiter(map(_HASHES.__getitem__, words), np.uint64, len(words))
    runs = np.sort(ngrams(ids, min(NGRAM, len(ids))))
    return runs[np.diff(runs, prepend=~runs[0]) != 0]


class _Hashes(dict[str, int]):
    """64-bit hashes of words, the same in every process; those of a quarter of a million words are kept, in 50 MB."""

    def __missing__(self, word: str) -> int:
        if len(self) >= KNOWN_WORDS:
            self.clear()
        found = self[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return found


KNOWN_WORDS = 1 << 18
_HASHES = _Hashes()


def bands(documents: list[list[str]]) -> NDArray[np.uint64]:
    """A hash of each band of the MinHash signatures of documents, given by their words [documents, 14].

    Documents are hashed together, since each call of numpy costs as much as a hundred words."""
    lengths = np.array([len(words) for words in documents])
    ids = np.fromiter(map(_HASHES.__getitem__, itertools.chain.from_iterable(documents)), np.uint64, int(lengths.sum()))
    together, ends = ngrams(ids, NGRAM), np.cumsum(lengths)
    signatures = np.full((len(documents), BANDS * ROWS), np.iinfo(np.uint64).max, np.uint64)
    for signature, words, end in zip(signatures, documents, ends.tolist(), strict=True):
        # A repeated run does not change a minimum. Runs into the next document are left out.
        runs = together[end - len(words) : end - NGRAM + 1] if len(words) >= NGRAM else shingles(words)
        for start in range(0, len(runs), PART):
            mixed = runs[start : start + PART, None] * FACTORS
            mixed += SHIFTS
            mixed ^= mixed >> np.uint64(32)
            np.minimum(signature, mixed.min(axis=0), out=signature)
    return fold(signatures.reshape(-1, ROWS)).reshape(-1, BANDS)


def jaccard(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    """Share of common elements of two sorted sets; 1 for two empty ones."""
    common = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - common
    return common / union if union else 1.0


def signed(texts: list[str], near: bool) -> NDArray[np.void]:
    """What of each document decides which others it may repeat [documents] of SIGNED; without bands unless `near`."""
    rows, words = np.zeros(len(texts), SIGNED), [words_of(text) for text in texts]
    rows["digest"] = np.frombuffer(b"".join(map(digest, texts, words)), "V12")
    if near:
        told = [number for number, found in enumerate(words) if found]
        rows["words"][told] = True
        if told:
            rows["bands"][told] = bands([words[number] for number in told])
    return rows


class Duplicates:
    """Documents of a corpus, numbered as they are added. `text_of` reads one again.

    What `signed` makes of them (125 bytes each) is in files of `folder` that have no name. In memory are 10 bytes each,
    24 more at the end, and `SORTED` at once of what is sorted. `min_jaccard` None looks for documents with the same
    words only. `copies` [documents] says which have the words of an earlier one; it is made by `clusters`."""

    def __init__(
        self, text_of: Callable[[int], str], min_jaccard: float | None = 0.8, folder: Path | None = None
    ) -> None:
        self._text_of, self._min_jaccard = text_of, min_jaccard
        self._count, self._waiting = 0, list[str]()
        self._files = ExitStack()

        def file() -> IO[bytes]:
            return self._files.enter_context(tempfile.TemporaryFile(dir=folder))

        self._digests, self._words = file(), file()
        self._bands = [file() for _ in range(BANDS if min_jaccard is not None else 0)]
        self.copies: NDArray[np.bool_] = np.zeros(0, bool)

    def add(self, text: str) -> None:
        """The next document."""
        self._waiting.append(text)
        if len(self._waiting) == TOGETHER:
            self._sign()

    def add_signed(self, rows: NDArray[np.void]) -> None:
        """The next documents, as `signed` has made them."""
        self._count += len(rows)
        self._digests.write(rows["digest"].tobytes())
        self._words.write(rows["words"].tobytes())
        for band, file in enumerate(self._bands):
            file.write(rows["bands"][:, band].tobytes())

    def clusters(self) -> NDArray[np.int64]:
        """For each document the first one of its cluster [documents]; its own number where it repeats none before it.
        Called once, after all are added."""
        self._sign()
        parents = np.arange(self._count)
        for numbers in _equal(self._digests, DIGEST, None):
            parents[numbers[1:]] = numbers[0]
        self.copies = parents != np.arange(self._count)
        if self._min_jaccard is not None:
            self._words.seek(0)
            compared = np.fromfile(self._words, bool) & ~self.copies
            self._join_similar(parents, compared, self._min_jaccard)
        while (parents[parents] != parents).any():
            parents = parents[parents]
        self._files.close()
        return parents

    def _sign(self) -> None:
        if self._waiting:
            self.add_signed(signed(self._waiting, self._min_jaccard is not None))
            self._waiting.clear()

    def _join_similar(self, parents: NDArray[np.int64], compared: NDArray[np.bool_], min_jaccard: float) -> None:
        known: dict[int, NDArray[np.uint64]] = {}
        held = 0

        def runs(number: int) -> NDArray[np.uint64]:
            nonlocal held
            if number not in known:
                if held >= KNOWN_RUNS:
                    known.clear()
                    held = 0
                known[number] = shingles(words_of(self._text_of(number)))
                held += len(known[number])
            return known[number]

        for file in self._bands:
            for group in _equal(file, np.dtype("<u8"), compared):
                representatives: list[int] = []
                for number in group.tolist():
                    if any(_root(parents, other) == _root(parents, number) for other in representatives):
                        continue
                    similar = next(
                        (other for other in representatives if jaccard(runs(other), runs(number)) >= min_jaccard), None
                    )
                    if similar is None:
                        representatives.append(number)
                    else:
                        first, second = sorted((_root(parents, similar), _root(parents, number)))
                        parents[second] = first


def _equal(file: IO[bytes], kind: np.dtype[Any], chosen: NDArray[np.bool_] | None) -> Iterator[NDArray[np.int64]]:
    """Numbers of the documents with equal entries in a file, at least two each, in order of the documents; of the
    `chosen` ones. The groups are in order of their entries, whatever the number of parts that are sorted one by one."""
    file.seek(0, os.SEEK_END)
    count = file.tell() // kind.itemsize
    parts = -(-count // SORTED)
    for part in range(parts):
        numbers, entries = _of_part(file, kind, chosen, part, parts)
        if not len(numbers):
            continue
        columns = [entries] if entries.ndim == 1 else [entries[:, 1], entries[:, 0]]
        order = np.lexsort(columns)  # stable, so that equal entries stay in order of the documents
        other = np.zeros(len(order) - 1, bool)
        for column in columns:
            other |= np.diff(column[order]) != 0
        starts = np.concatenate([[0], np.flatnonzero(other) + 1, [len(order)]])
        for number in np.flatnonzero(np.diff(starts) > 1).tolist():
            yield numbers[order[starts[number] : starts[number + 1]]]


def _of_part(
    file: IO[bytes], kind: np.dtype[Any], chosen: NDArray[np.bool_] | None, part: int, parts: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Numbers and entries of the documents in one part of the range of 64-bit hashes: [documents], or [documents, 2]
    where an entry has 12 bytes."""
    file.seek(0)
    found: list[tuple[NDArray[np.int64], NDArray[np.uint64]]] = []
    read, bound = 0, (1 << 64) // parts + 1
    while len(rows := np.frombuffer(file.read(CHUNK * kind.itemsize), kind)):
        hashes = rows if kind != DIGEST else rows["first"]
        inside = hashes // np.uint64(bound) == part if parts > 1 else np.ones(len(rows), bool)
        if chosen is not None:
            inside &= chosen[read : read + len(rows)]
        entries = rows[inside]
        if kind == DIGEST:
            entries = np.stack([entries["first"], entries["rest"].astype(np.uint64)], axis=1)
        found.append((np.flatnonzero(inside) + read, entries))
        read += len(rows)
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    return np.concatenate([numbers for numbers, _ in found]), np.concatenate([entries for _, entries in found])


def _root(parents: NDArray[np.int64], number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = int(parents[number])
    return number
