"""Fixed-length windows over a split's token stream: the one way training, calibration and scoring cut documents into
sequences.

Window i covers tokens [i x seq_length, (i + 1) x seq_length], one more than seq_length so that every input has its
target. Documents are concatenated with their end-of-document tokens; `documents` keeps them apart where asked."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.tokens.indexed import IndexedTokens


@dataclass(frozen=True, kw_only=True)
class Samples:
    """n training sequences, each with one token more than seq_length, so that every input has its target."""

    addresses: NDArray[np.int64]
    """[n, seq_length]: where each input stands in the split's token stream (its document's start + its position),
    whatever sequence, batch or rank it ends up in; stored values of a token are found by it."""
    tokens: NDArray[np.int64]
    """[n, seq_length + 1]"""
    counted: NDArray[np.bool_] | None = None
    """[n, seq_length]: the targets that are learned; None: all."""
    positions: NDArray[np.int64] | None = None
    """[n, seq_length]: each input's position in its own text; None: its position in the sequence."""
    segments: NDArray[np.int64] | None = None
    """[n, seq_length]: inputs attend only to earlier ones with the same number; None: to all earlier ones."""


class Split(Protocol):
    """What training reads its sequences from: a corpus cut into windows, or packed records."""

    def __len__(self) -> int: ...

    def samples(self, indices: NDArray[np.int64] | range) -> Samples: ...

    def shuffled(self, position: int, count: int, seed: int) -> NDArray[np.int64]: ...


class Windows:
    """The windows of one split, read from the memory-mapped tokens on demand; `corpus` names the one of several that it
    is of."""

    def __init__(self, prefix: Path, seq_length: int, corpus: str = "") -> None:
        self.tokens = IndexedTokens(prefix).tokens
        self.seq_length = seq_length
        self.count = (len(self.tokens) - 1) // seq_length
        if self.count < 1:
            split = f"the {prefix.name} split of {corpus}" if corpus else f"the {prefix.name} split"
            raise ValueError(
                f"{split} has {len(self.tokens)} tokens, fewer than one sequence of {seq_length} + 1; "
                "add text or choose a smaller seq_length"
            )

    def __len__(self) -> int:
        return self.count

    def tokens_at(self, indices: NDArray[np.int64] | range) -> NDArray[np.int64]:
        """Windows by index, shape [len(indices), seq_length + 1]."""
        starts = np.asarray(indices, dtype=np.int64)[:, None] * self.seq_length
        return self.tokens[starts + np.arange(self.seq_length + 1)].astype(np.int64)

    def samples(self, indices: NDArray[np.int64] | range) -> Samples:
        """Windows by index, as training reads them."""
        starts = np.asarray(indices, dtype=np.int64)[:, None] * self.seq_length
        return Samples(addresses=starts + np.arange(self.seq_length), tokens=self.tokens_at(indices))

    def first(self, count: int) -> NDArray[np.int64]:
        """The first windows, at most `count`."""
        return self.tokens_at(range(min(count, self.count)))

    def shuffled(self, position: int, count: int, seed: int) -> NDArray[np.int64]:
        """Indices of the training samples [position, position + count): a new seeded permutation every pass over the
        windows.

        Depends only on its arguments, so that a resumed run sees exactly the samples an undisturbed one would."""
        return shuffled(self.count, position, count, seed)


def shuffled(total: int, position: int, count: int, seed: int) -> NDArray[np.int64]:
    """`count` indices below `total` from `position` on, in an order drawn anew every pass."""
    order: list[NDArray[np.int64]] = []
    for epoch in range(position // total, (position + count - 1) // total + 1):
        first = max(position - epoch * total, 0)
        order.append(permutation(total, seed, epoch)[first : position + count - epoch * total])
    return np.concatenate(order)


@functools.lru_cache(maxsize=8)
def permutation(total: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of a pass over `total` sequences. Cached, since every step takes a slice of it: drawing one of 22
    million takes most of a second."""
    return np.random.default_rng([seed, epoch]).permutation(total)
