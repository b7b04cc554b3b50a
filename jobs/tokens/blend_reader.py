"""Several corpora read as one stream of sequences in given proportions, in an order that depends only on seed and
position, as `interleave` has it. Within a corpus the order is a new seeded permutation every pass, as in `windows`.

Where the proportions change over training, they do so at sequences of the training that reads them: its length is part
of how a blend is opened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conf.stages.mix import bounds, scaled_bounds
from jobs.tokens.interleave import Interleaved, Staged
from jobs.tokens.windows import Samples, Split, Windows

BLEND = "blend.json"
"""In a blend's artifact: its corpora by name, with weights and the relative paths of their tokens."""


class Blended:
    """The training split of a blend, for a training of `sequences`, or for so many `samples` of all of it. Indices run
    through the windows of the first corpus, then of the second, and so on. A training may read `spare` sequences more,
    which follow in the same mix."""

    def __init__(self, data: Path, seq_length: int, sequences: int, *, samples: bool = False, spare: int = 0) -> None:
        content = json.loads((data / BLEND).read_text())
        entries = content["sources"]
        self.seq_length, self.stages = seq_length, content.get("stages", [])
        self.names = [entry["name"] for entry in entries]
        self.parts = [
            Windows(_corpus_folder(data, name, entry["path"]) / "train", seq_length, name)
            for name, entry in zip(self.names, entries, strict=True)
        ]
        self.weights = np.array([entry["weight"] for entry in entries], dtype=np.float64)
        self.firsts = np.cumsum([0, *(len(part) for part in self.parts)])
        self.bases = np.cumsum([0, *(len(part.tokens) for part in self.parts)])
        self.mix = self._mix(sequences, samples=samples, spare=spare)
        self._planned = self._mix(sequences, samples=samples) if spare else self.mix

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
        count = min(count, len(self))
        order = self._mix(count, samples=True).order(0, count)
        return self.tokens_at(
            np.array([self.firsts[owner] + number % len(self.parts[owner]) for owner, number in order])
        )

    def shuffled(self, position: int, count: int, seed: int) -> NDArray[np.int64]:
        """Indices of the training samples [position, position + count), a function of its arguments alone."""
        order = self.mix.order(position, count)
        result = np.empty(count, np.int64)
        for number, part in enumerate(self.parts):
            selected = order[:, 0] == number
            if selected.any():
                result[selected] = self.firsts[number] + part.shuffled(
                    int(order[selected, 1].min()), int(selected.sum()), seed + number
                )
        return result

    def told(self) -> list[str]:
        """What each stage of the mix reads in this training if nothing is left out, a sentence each; none where the mix
        does not change."""
        if not isinstance(self._planned, Staged):
            return []
        sizes, so_far = np.array([len(part) for part in self.parts]), np.cumsum(self._planned.read, axis=0)
        return [
            f"stage {number} of the blend, to sequence {end:,}: "
            + ", ".join(
                f"{name} {count:,} ({passes:.2f} passes so far)"
                for name, count, passes in zip(self.names, read, until / sizes, strict=True)
                if count
            )
            for number, (end, read, until) in enumerate(
                zip(self._planned.bounds[1:], self._planned.read, so_far, strict=True), start=1
            )
            if read.any()
        ]

    def _mix(self, sequences: int, *, samples: bool, spare: int = 0) -> Interleaved | Staged:
        """The order of the corpora's sequences; the last stage goes on for those that are read beyond it."""
        if not self.stages:
            return Interleaved(self.weights)
        untils = [stage["until"] for stage in self.stages]
        ends = scaled_bounds(untils, sequences) if samples else bounds(untils, sequences, self.seq_length)
        weights = [np.array([stage["weights"].get(name, 0.0) for name in self.names]) for stage in self.stages]
        within = np.minimum(ends, sequences + spare)
        if spare:
            within[-1] = sequences + spare
        return Staged(within.tolist(), weights)


def _corpus_folder(data: Path, name: str, path: str) -> Path:
    folder = (data / path).resolve()
    if not (folder / "train.bin").is_file():
        raise ValueError(
            f"the blend {data} reads the corpus {name} from {folder}, which does not exist; run the recipe again to"
            " rebuild it"
        )
    return folder


def training_split(
    data: Path, seq_length: int, sequences: int, *, spare: int = 0, quiet: bool = False
) -> Windows | Blended:
    """The training split of a data or blend artifact, for a training of `sequences` and at most `spare` more in place
    of some that are left out. Prints the stages of a mix, unless `quiet`."""
    if not (data / BLEND).is_file():
        return Windows(data / "train", seq_length)
    blended = Blended(data, seq_length, sequences, spare=spare)
    for sentence in () if quiet else blended.told():
        print(sentence)
    return blended


def sample_split(data: Path, seq_length: int, samples: int) -> Windows | Blended:
    """The same for so many samples of it, which all stages of a mix have their part of."""
    if not (data / BLEND).is_file():
        return Windows(data / "train", seq_length)
    return Blended(data, seq_length, samples, samples=True)


def splits(data: Path, seq_length: int, sequences: int, spare: int = 0) -> tuple[Split, Windows]:
    """The training split of a data or blend artifact, as `training_split` has it, and its validation windows."""
    return training_split(data, seq_length, sequences, spare=spare), Windows(data / "validation", seq_length)
