"""The text of a training whose sequences change their length: every phase goes on where the one before stopped.

The order is that of blocks, which hold whole sequences of every length: a pass over the text is a permutation of its
blocks, a phase reads a run of them, and its sequences are shuffled among those of its own blocks. So nothing is read
again before all blocks were read, whatever the lengths are, and the order depends on seed and position alone.

Where training goes back from a spike, what it then reads in place of the batches that it leaves out follows all that
the phases that it has come to were to read, and later phases begin after it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.stages.documents import WithDocuments
from conf.stages.phases import Span
from conf.stages.training import Training
from jobs.tokens.blend_reader import Blended, splits, training_split
from jobs.tokens.documents import Apart, end_token
from jobs.tokens.windows import Samples, Split, Windows, permutation

Rewound = Sequence[dict[str, Any]]
"""Each time that training went back, in order: the `step` that was a spike, and the one that it went back `to`."""


class PhasedText:
    """The training split of a data or blend artifact for a training with phases."""

    def __init__(self, data: Path, config: Training, end: int | None = None) -> None:
        """`end`: the token that ends a document, if documents are kept apart."""
        self.data, self.config, self.end = data, config, end
        self._opened: dict[tuple[int, range], Split] = {}
        per_step = config.tokens_per_step // config.block_length
        self.blocks = training_split(data, config.block_length, config.blocks, spare=config.spare_steps * per_step)
        for name, unread in self._unread().items():
            if unread:
                print(
                    f"{unread:,} tokens at the end of {name} are less than a block of {config.block_length}: not read"
                )

    def __len__(self) -> int:
        return len(self.blocks)

    def phase(self, span: Span, piece: range | None = None) -> Split:
        """What a phase reads: of the batches that the text holds, its own, or a `piece` that `pieces` gives it."""
        key = span.number, range(span.start, span.until) if piece is None else piece
        if key not in self._opened:
            read = PhaseOfText(self, span, key[1])
            self._opened[key] = read if self.end is None else Apart(read, self.end)
        return self._opened[key]

    def batch(self, span: Span, done: int, rewound: Rewound) -> tuple[Split, int]:
        """The piece of the text from which the step after `done` steps reads, and the number of its batch there."""
        number = done - span.start + sum(_within(span, each) for each in rewound if each["to"] <= done)
        for piece in pieces(self.config.spans, rewound)[span.number - 1]:
            if number < len(piece):
                return self.phase(span, piece), number
            number -= len(piece)
        raise AssertionError(f"phase {span.number} has no batch for the step after {done}")

    def parts(self) -> list[Windows]:
        """The blocks of each corpus."""
        return self.blocks.parts if isinstance(self.blocks, Blended) else [self.blocks]

    def order(self, position: int, count: int) -> NDArray[np.int64]:
        """[count, 2]: the corpus of each block, and the number of earlier blocks from it."""
        if isinstance(self.blocks, Blended):
            return self.blocks.mix.order(position, count)
        return np.stack([np.zeros(count, np.int64), np.arange(position, position + count)], axis=1)

    def counts(self, position: int) -> NDArray[np.int64]:
        """How many of the blocks before `position` are from each corpus."""
        return self.blocks.mix.counts(position) if isinstance(self.blocks, Blended) else np.array([position])

    def _unread(self) -> dict[str, int]:
        names = self.blocks.names if isinstance(self.blocks, Blended) else ["the text"]
        sizes = [len(part.tokens) - 1 - len(part) * self.config.block_length for part in self.parts()]
        return dict(zip(names, sizes, strict=True))

    # Only a phase is read.
    def samples(self, indices: NDArray[np.int64] | range) -> Samples:
        """Whole blocks."""
        return self.blocks.samples(indices)

    def shuffled(self, position: int, count: int, seed: int) -> NDArray[np.int64]:
        """Whole blocks."""
        return self.blocks.shuffled(position, count, seed)


class PhaseOfText:
    """The sequences of a run of batches that one phase reads, numbered from its beginning."""

    def __init__(self, text: PhasedText, span: Span, piece: range) -> None:
        whole, length = text.config, span.config.seq_length
        per_step = whole.tokens_per_step // whole.block_length
        self.text, self.number, self.each = text, span.number, whole.block_length // length
        self.first = piece.start * per_step
        self.begins, self.ends = text.counts(self.first), text.counts(piece.stop * per_step)
        self.windows = training_split(text.data, length, whole.tokens // length, quiet=True)

    def __len__(self) -> int:
        return len(self.windows)

    def samples(self, indices: NDArray[np.int64] | range) -> Samples:
        """Sequences by index, as training reads them."""
        return self.windows.samples(indices)

    def shuffled(self, position: int, count: int, seed: int) -> NDArray[np.int64]:
        """Indices of the phase's sequences [position, position + count), a function of its arguments alone."""
        places = np.arange(position, position + count)
        first = position // self.each
        order = self.text.order(self.first + first, (position + count - 1) // self.each + 1 - first)
        owners, numbers = order[places // self.each - first].T
        result = np.empty(count, np.int64)
        firsts = self.windows.firsts if isinstance(self.windows, Blended) else [0]
        for corpus, part in enumerate(self.text.parts()):
            for turn in np.unique(numbers[owners == corpus] // len(part)):
                chosen = (owners == corpus) & (numbers // len(part) == turn)
                found = self._within(corpus, int(turn), numbers[chosen], places[chosen] % self.each, seed + corpus)
                result[chosen] = firsts[corpus] + found
        return result

    def _within(
        self, corpus: int, turn: int, numbers: NDArray[np.int64], inside: NDArray[np.int64], seed: int
    ) -> NDArray[np.int64]:
        """Indices of sequences of a corpus in its pass `turn`, given their blocks' numbers and places inside them."""
        total = len(self.text.parts()[corpus])
        start = max(int(self.begins[corpus]), turn * total)
        end = min(int(self.ends[corpus]), (turn + 1) * total)
        ranks = (numbers - start) * self.each + inside
        if self.each > 1:
            ranks = _mixed((end - start) * self.each, seed, turn, self.number)[ranks]
        blocks = permutation(total, seed, turn)[start - turn * total + ranks // self.each]
        return blocks * self.each + ranks % self.each


def pieces(spans: Sequence[Span], rewound: Rewound) -> list[list[range]]:
    """The batches of the text that each phase reads, in order: those of its steps, and for each time that training went
    back as many as it left out. No batch is in two of them."""
    found = [[range(span.start, span.until)] for span in spans]
    entered = 0
    for each in rewound:
        counts = [_within(span, each) for span in spans]
        entered = max(entered, *(number for number, count in enumerate(counts) if count))
        free = max(piece.stop for of_phase in found[: entered + 1] for piece in of_phase)
        for of_phase, count in zip(found, counts, strict=True):
            if count:
                of_phase.append(range(free, free + count))
                free += count
        found[entered + 1 :] = [
            [range(piece.start + sum(counts), piece.stop + sum(counts)) for piece in of_phase]
            for of_phase in found[entered + 1 :]
        ]
    return found


def _within(span: Span, rewound: dict[str, Any]) -> int:
    """Steps of a phase among those of a window that was left out."""
    return max(0, min(span.end, rewound["step"]) - max(span.start, rewound["to"]))


@functools.lru_cache(maxsize=8)
def _mixed(total: int, seed: int, turn: int, phase: int) -> NDArray[np.int64]:
    """The order of a phase's sequences in one pass."""
    return np.random.default_rng([seed, turn, phase]).permutation(total)


def splits_of(data: Path, config: WithDocuments) -> tuple[Split, Split]:
    """The training split of a data or blend artifact for a training, and its validation windows."""
    end = end_token(data) if config.document_mask else None
    train: Split
    if config.phases:
        train, validation = PhasedText(data, config, end), Windows(data / "validation", config.seq_length)
    else:
        train, validation = splits(data, config.seq_length, config.sequences, config.spare_steps * config.global_batch)
    if end is None:
        return train, validation
    return train if isinstance(train, PhasedText) else Apart(train, end), Apart(validation, end)
