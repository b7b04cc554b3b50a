"""Several corpora read as one stream of sequences in given proportions, in an order that depends only on seed and
position.

The k-th sequence of a corpus of weight w (of 1) stands at time (k + 1/2) / w, and sequences are ordered by time. At
every point of the stream the number taken from a corpus is therefore within (n + 1) / 2 sequences of its weighted
share, for n corpora. Megatron's BlendedDataset chooses greedily to the same end, but has to be walked from the start;
here any position is reached directly, which resuming requires. Within a corpus the order is a new seeded permutation
every pass, as in `windows`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.tokens.windows import Samples, Split, Windows

BLEND = "blend.json"
"""In a blend's artifact: its corpora by name, with weights and the relative paths of their tokens."""


class Blended:
    """The training split of a blend. Indices run through the windows of the first corpus, then of the second, and so
    on."""

    def __init__(self, data: Path, seq_length: int) -> None:
        entries = json.loads((data / BLEND).read_text())["sources"]
        self.seq_length = seq_length
        self.parts = [
            Windows(_corpus_folder(data, entry["name"], entry["path"]) / "train", seq_length) for entry in entries
        ]
        self.weights = np.array([entry["weight"] for entry in entries], dtype=np.float64)
        self.firsts = np.cumsum([0, *(len(part) for part in self.parts)])
        self.bases = np.cumsum([0, *(len(part.tokens) for part in self.parts)])

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def samples(self, indices: NDArray[np.int64] | range) -> Samples:
        """Windows by index; a token's address is its position in the concatenated tokens of all corpora."""
        positions = np.asarray(indices, dtype=np.int64)
        owners = np.searchsorted(self.firsts, positions, side="right") - 1
        tokens = np.empty((len(positions), self.seq_length + 1), np.int64)
        addresses = np.empty((len(positions), self.seq_length), np.int64)
        for number in np.unique(owners):
            selected = owners == number
            windows = self.parts[number].samples(positions[selected] - self.firsts[number])
            tokens[selected], addresses[selected] = windows.tokens, windows.addresses + self.bases[number]
        return Samples(addresses=addresses, tokens=tokens)

    def tokens_at(self, indices: NDArray[np.int64] | range) -> NDArray[np.int64]:
        """Windows by index, shape [len(indices), seq_length + 1]."""
        return self.samples(indices).tokens

    def first(self, count: int) -> NDArray[np.int64]:
        """The first windows of each corpus in the blend's proportions, for calibration; at most `count`."""
        order = self.order(0, min(count, len(self)))
        return self.tokens_at(
            np.array([self.firsts[owner] + number % len(self.parts[owner]) for owner, number in order])
        )

    def shuffled(self, position: int, count: int, seed: int) -> NDArray[np.int64]:
        """Indices of the training samples [position, position + count), a function of its arguments alone."""
        order = self.order(position, count)
        result = np.empty(count, np.int64)
        for number, part in enumerate(self.parts):
            selected = order[:, 0] == number
            if selected.any():
                result[selected] = self.firsts[number] + part.shuffled(
                    int(order[selected, 1].min()), int(selected.sum()), seed + number
                )
        return result

    def order(self, position: int, count: int) -> NDArray[np.int64]:
        """[count, 2]: for the samples [position, position + count), the corpus and the number of earlier samples from
        it."""
        time = max(0.0, position - len(self.parts))
        start_counts = self._counts_until(time)
        end_counts = self._counts_until(position + count + len(self.parts))
        number_ranges = [np.arange(first, last) for first, last in zip(start_counts, end_counts, strict=True)]
        owners = np.repeat(np.arange(len(self.parts)), end_counts - start_counts)
        candidates = np.stack([owners, np.concatenate(number_ranges)], axis=1)
        times = _times(candidates[:, 1], self.weights[candidates[:, 0]])
        ordered = candidates[np.lexsort((candidates[:, 0], times))]
        skipped = position - int(start_counts.sum())
        return ordered[skipped : skipped + count]

    def _counts_until(self, time: float) -> NDArray[np.int64]:
        """Sequences of each corpus up to `time`, rounded exactly as their order is."""
        counts = np.floor(time * self.weights + 0.5).astype(np.int64)
        counts -= (counts > 0) & (_times(counts - 1, self.weights) > time)
        return counts + (_times(counts, self.weights) <= time)


def _times(numbers: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return (numbers + 0.5) / weights


def _corpus_folder(data: Path, name: str, path: str) -> Path:
    folder = (data / path).resolve()
    if not (folder / "train.bin").is_file():
        raise ValueError(
            f"the blend {data} reads the corpus {name} from {folder}, which does not exist; run the recipe again to"
            " rebuild it"
        )
    return folder


def training_split(data: Path, seq_length: int) -> Windows | Blended:
    """The training split of a data or blend artifact."""
    return Blended(data, seq_length) if (data / BLEND).is_file() else Windows(data / "train", seq_length)


def splits(data: Path, seq_length: int) -> tuple[Split, Windows]:
    """The training split of a data or blend artifact, and its validation windows."""
    return training_split(data, seq_length), Windows(data / "validation", seq_length)
