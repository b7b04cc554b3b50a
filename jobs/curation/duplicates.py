"""Finds documents that repeat earlier ones, exactly or nearly.

Near duplicates share most of their runs of five words. MinHash signatures in 14 bands of 8 propose pairs (at a Jaccard
index of 0.8 all but 8% of pairs share a band, at 0.9 all but one in ten thousand), and each proposed pair is compared
in full, so that no document is removed for a similarity that it does not have. The first document of a cluster stays,
whatever the number of workers."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

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
    """64-bit hashes of words, the same in every process; those of a million words are kept."""

    def __missing__(self, word: str) -> int:
        if len(self) >= KNOWN_WORDS:
            self.clear()
        found = self[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return found


KNOWN_WORDS = 1 << 20
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


@dataclass
class Duplicates:
    """Documents of a corpus, numbered as they are added; 112 bytes of memory each. `text_of` reads one again.

    `min_jaccard` None looks for documents with the same words only. `copies` are those that have the words of an
    earlier one, with its number."""

    text_of: Callable[[int], str]
    min_jaccard: float | None = 0.8
    _first: dict[bytes, int] = field(default_factory=dict)
    copies: dict[int, int] = field(default_factory=dict)
    _waiting: list[list[str]] = field(default_factory=list)
    _bands: list[NDArray[np.uint64]] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=list)
    _count: int = 0

    def add(self, text: str) -> None:
        """The next document."""
        number, self._count = self._count, self._count + 1
        words = words_of(text)
        first = self._first.setdefault(digest(text, words), number)
        if first != number:
            self.copies[number] = first
        elif self.min_jaccard is not None and words:
            self._numbers.append(number)
            self._waiting.append(words)
            if len(self._waiting) == TOGETHER:
                self._sign()

    def clusters(self) -> NDArray[np.int64]:
        """For each document the first one of its cluster [documents]; its own number where it repeats none before
        it."""
        parents = np.arange(self._count)
        for copy, first in self.copies.items():
            parents[copy] = first
        if self.min_jaccard is not None and self._numbers:
            self._sign()
            self._join_similar(parents, np.concatenate(self._bands), np.array(self._numbers), self.min_jaccard)
        return np.array([_root(parents, number) for number in range(self._count)], np.int64)

    def _sign(self) -> None:
        if self._waiting:
            self._bands.append(bands(self._waiting))
            self._waiting.clear()

    def _join_similar(
        self,
        parents: NDArray[np.int64],
        signatures: NDArray[np.uint64],
        numbers: NDArray[np.int64],
        min_jaccard: float,
    ) -> None:
        known: dict[int, NDArray[np.uint64]] = {}

        def runs(number: int) -> NDArray[np.uint64]:
            if number not in known:
                if len(known) >= 4096:
                    known.clear()
                known[number] = shingles(words_of(self.text_of(number)))
            return known[number]

        for band in range(BANDS):
            for group in _groups(signatures[:, band], numbers):
                representatives: list[int] = []
                for number in group:
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


def _groups(hashes: NDArray[np.uint64], numbers: NDArray[np.int64]) -> Iterator[list[int]]:
    """Documents with equal hashes, at least two each, in order."""
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.diff(hashes[order], prepend=hashes[order[0]] ^ np.uint64(1)))
    for start, end in zip(starts, np.append(starts[1:], len(order)), strict=True):
        if end - start > 1:
            yield numbers[order[start:end]].tolist()


def _root(parents: NDArray[np.int64], number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = int(parents[number])
    return number
