"""The order in which sequences of several corpora follow each other by weight, a function of the position alone.

The k-th sequence of a corpus of weight w (of 1) stands at time (k + 1/2) / w, and sequences are ordered by time. At
every point the number taken from a corpus is therefore within (n + 1) / 2 sequences of its weighted share, for n
corpora. Megatron's BlendedDataset chooses greedily to the same end, but has to be walked from the start; here any
position is reached directly, which resuming requires."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Order = NDArray[np.int64]
"""[count, 2]: a corpus, and the number of earlier sequences from it."""


class Interleaved:
    """Corpora with the same weights at every position, 1 in sum; one of weight 0 never comes."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.corpora = len(weights)
        self._drawn = np.flatnonzero(weights > 0)
        self._weights = weights[self._drawn]

    def order(self, position: int, count: int) -> Order:
        """The sequences [position, position + count)."""
        before, ordered = self._around(position, count)
        skipped = position - int(before.sum())
        return ordered[skipped : skipped + count]

    def counts(self, position: int) -> NDArray[np.int64]:
        """How many of the sequences before `position` are from each corpus, [corpora]."""
        before, ordered = self._around(position, 0)
        counts = np.bincount(ordered[: position - int(before.sum()), 0], minlength=self.corpora)
        counts[self._drawn] += before
        return counts

    def _around(self, position: int, count: int) -> tuple[NDArray[np.int64], Order]:
        """The sequences from somewhat before `position` to somewhat after `position` + `count` in order, and how many
        of each drawn corpus are before them."""
        margin = len(self._drawn)
        start = self._counts_until(max(0.0, position - margin))
        end = self._counts_until(position + count + margin)
        numbers = np.concatenate([np.arange(first, last) for first, last in zip(start, end, strict=True)])
        owners = np.repeat(np.arange(margin), end - start)
        ranking = np.lexsort((owners, _times(numbers, self._weights[owners])))
        return start, np.stack([self._drawn[owners], numbers], axis=1)[ranking]

    def _counts_until(self, time: float) -> NDArray[np.int64]:
        """Sequences of each drawn corpus up to `time`; a rounded product may miscount one that stands at it, which the
        margin allows for."""
        return np.floor(time * self._weights + 0.5).astype(np.int64)


class Staged:
    """Corpora whose weights change before the sequences `bounds`, which rise to the last one. In each stage a corpus
    goes on where the stages before have stopped reading it."""

    def __init__(self, bounds: Sequence[int], weights: Sequence[NDArray[np.float64]]) -> None:
        self.stages = [Interleaved(each) for each in weights]
        self.bounds = np.array([0, *bounds])
        lengths = np.diff(self.bounds)
        self.read = np.array([stage.counts(int(length)) for stage, length in zip(self.stages, lengths, strict=True)])
        """[stages, corpora]: sequences that each stage reads of each corpus."""
        self._before = np.cumsum([np.zeros_like(self.read[0]), *self.read], axis=0)

    def order(self, position: int, count: int) -> Order:
        """The sequences [position, position + count). Raises ValueError for one after the last stage."""
        if position + count > self.bounds[-1]:
            raise ValueError(
                f"the blend was opened for a training of {self.bounds[-1]} sequences, but sequence"
                f" {position + count} is read"
            )
        parts = [np.empty((0, 2), np.int64)]
        for number, (first, end) in enumerate(pairwise(self.bounds.tolist())):
            start, stop = max(position, first), min(position + count, end)
            if start < stop:
                part = self.stages[number].order(start - first, stop - start)
                part[:, 1] += self._before[number][part[:, 0]]
                parts.append(part)
        return np.concatenate(parts)

    def counts(self, position: int) -> NDArray[np.int64]:
        """How many of the sequences before `position` are from each corpus, [corpora]."""
        number = min(int(np.searchsorted(self.bounds, position, side="right")) - 1, len(self.stages) - 1)
        return self._before[number] + self.stages[number].counts(position - int(self.bounds[number]))


def _times(numbers: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return (numbers + 0.5) / weights
