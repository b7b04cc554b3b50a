"""Several corpora read as one stream of sequences, in given proportions: an order that depends on seed and position
alone.

The k-th sequence of a corpus of weight w (of 1) stands at the time (k + 1/2) / w, and sequences come in the order of
their times. So at every point of the stream the number that has come from a corpus is within (n + 1) / 2 sequences of
its weight's part, n being the number of corpora. Megatron's BlendedDataset chooses greedily to the same end, but has to
be walked from the start; here any position is reached at once, as resuming asks. Within a corpus the order is a new
seeded permutation every pass, as in `windows`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.tokens.windows import Samples, Split, Windows

BLEND = "blend.json"
"""In a blend's artifact: its corpora by name with weights and, relative to it, where their tokens are."""


class Blended:
    """The training split of a blend. An index names a corpus' window: those of the first corpus, then of the second,
    and so on."""

    def __init__(self, data: Path, seq_length: int) -> None:
        entries = json.loads((data / BLEND).read_text())["sources"]
        self.seq_length = seq_length
        self.parts = [Windows(_found(data, entry["name"], entry["path"]) / "train", seq_length) for entry in entries]
        self.weights = np.array([entry["weight"] for entry in entries], dtype=np.float64)
        self.firsts = np.cumsum([0, *(len(part) for part in self.parts)])
        self.bases = np.cumsum([0, *(len(part.tokens) for part in self.parts)])

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def samples(self, indices: NDArray[np.int64] | range) -> Samples:
        """Windows by index; a token's address is its place among the tokens of all corpora end to end."""
        places = np.asarray(indices, dtype=np.int64)
        owners = np.searchsorted(self.firsts, places, side="right") - 1
        tokens = np.empty((len(places), self.seq_length + 1), np.int64)
        addresses = np.empty((len(places), self.seq_length), np.int64)
        for number in np.unique(owners):
            here = owners == number
            found = self.parts[number].samples(places[here] - self.firsts[number])
            tokens[here], addresses[here] = found.tokens, found.addresses + self.bases[number]
        return Samples(addresses=addresses, tokens=tokens)

    def take(self, indices: NDArray[np.int64] | range) -> NDArray[np.int64]:
        """Windows by index, shape [len(indices), seq_length + 1]."""
        return self.samples(indices).tokens

    def first(self, count: int) -> NDArray[np.int64]:
        """The first windows of each corpus in the blend's proportions, for calibration; at most `count`."""
        order = self.order(0, min(count, len(self)))
        return self.take(np.array([self.firsts[owner] + number % len(self.parts[owner]) for owner, number in order]))

    def shuffled(self, position: int, count: int, seed: int) -> NDArray[np.int64]:
        """Indices of the training samples [position, position + count), a function of its arguments alone."""
        order = self.order(position, count)
        found = np.empty(count, np.int64)
        for number, part in enumerate(self.parts):
            here = order[:, 0] == number
            if here.any():
                found[here] = self.firsts[number] + part.shuffled(
                    int(order[here, 1].min()), int(here.sum()), seed + number
                )
        return found

    def order(self, position: int, count: int) -> NDArray[np.int64]:
        """[count, 2]: of the samples [position, position + count) the corpus, and how many had come from it before."""
        time = max(0.0, position - len(self.parts))
        before = self._until(time)
        until = self._until(position + count + len(self.parts))
        numbers = [np.arange(first, last) for first, last in zip(before, until, strict=True)]
        owners = np.repeat(np.arange(len(self.parts)), until - before)
        every = np.stack([owners, np.concatenate(numbers)], axis=1)
        times = _times(every[:, 1], self.weights[every[:, 0]])
        ordered = every[np.lexsort((every[:, 0], times))]
        skipped = position - int(before.sum())
        return ordered[skipped : skipped + count]

    def _until(self, time: float) -> NDArray[np.int64]:
        """How many sequences of each corpus come up to `time`, by the same rounding by which they are ordered."""
        counts = np.floor(time * self.weights + 0.5).astype(np.int64)
        counts -= (counts > 0) & (_times(counts - 1, self.weights) > time)
        return counts + (_times(counts, self.weights) <= time)


def _times(numbers: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return (numbers + 0.5) / weights


def _found(data: Path, name: str, path: str) -> Path:
    folder = (data / path).resolve()
    if not (folder / "train.bin").is_file():
        raise ValueError(
            f"the blend {data} reads the corpus {name} from {folder}, which is not there; run the recipe again: it"
            " makes it"
        )
    return folder


def training_split(data: Path, seq_length: int) -> Windows | Blended:
    """What a data or blend artifact trains on."""
    return Blended(data, seq_length) if (data / BLEND).is_file() else Windows(data / "train", seq_length)


def splits(data: Path, seq_length: int) -> tuple[Split, Windows]:
    """What a data or blend artifact trains on, and its validation windows."""
    return training_split(data, seq_length), Windows(data / "validation", seq_length)
