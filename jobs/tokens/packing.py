"""Records packed into sequences of one length, each attending only to itself: the rows of supervised fine-tuning.

Which records share a row depends only on their lengths, the row's length and a seed, so that a resumed run sees the
same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.tokens.masked import MaskedTokens
from jobs.tokens.windows import Samples, shuffled

PADDING = 0
"""The id that fills the end of a row; it is a segment of its own and never learned."""


def pack(lengths: NDArray[np.int32], capacity: int, seed: int) -> list[list[int]]:
    """Rows of record numbers whose lengths sum to at most `capacity`: best fit, longest first, records of equal length
    in seeded order.

    Best-fit decreasing needs at most 11/9 of the fewest rows possible (Johnson et al., 1974). Every record is in
    exactly one row."""
    assert len(lengths) == 0 or int(lengths.max()) <= capacity, "a record is longer than a row"
    order = np.random.default_rng(seed).permutation(len(lengths))
    order = order[np.argsort(-lengths[order].astype(np.int64), kind="stable")]
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # remaining room -> rows that have it
    room_bits = 0  # bit n is set if some row has room n
    for record in order.tolist():
        length = int(lengths[record])
        usable_rooms = room_bits >> length
        if usable_rooms:
            room = length + (usable_rooms & -usable_rooms).bit_length() - 1
            row = open_rows[room].pop()
            if not open_rows[room]:
                room_bits &= ~(1 << room)
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(record)
        remaining = room - length
        open_rows.setdefault(remaining, []).append(row)
        room_bits |= 1 << remaining
    return rows


class PackedRecords:
    """The rows of one split of a records artifact, as training reads them. A record longer than a row is refused."""

    def __init__(self, prefix: Path, seq_length: int, seed: int, multiple: int = 1) -> None:
        """Rows of padding are added up to a `multiple`, so that a short split still fills a pass."""
        self.records = MaskedTokens(prefix)
        self.seq_length = seq_length
        if not len(self.records):
            raise ValueError(
                f"the {prefix.name} split of the records is empty; raise records.{prefix.name}_share or add records"
            )
        longest = int(self.records.lengths.max())
        if longest > seq_length:
            raise ValueError(
                f"the longest record of {prefix} has {longest} tokens but sft.seq_length is {seq_length}; choose at"
                f" least {longest} or lower records.seq_length"
            )
        self.rows = pack(self.records.lengths, seq_length, seed)
        self.num_filled = len(self.rows)
        self.rows += [[] for _ in range(-len(self.rows) % multiple)]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def efficiency(self) -> float:
        """Share of the positions in rows with records that hold a token."""
        return float(self.records.lengths.sum(dtype=np.int64) / (self.num_filled * self.seq_length))

    def samples(self, indices: NDArray[np.int64] | range) -> Samples:
        """Rows by index: tokens, which targets are learned, each input's position in its record, its record's number in
        the row, and its address: the token's number in the split's `.bin`, -1 for padding."""
        shape = (len(indices), self.seq_length)
        tokens = np.full((shape[0], self.seq_length + 1), PADDING, np.int64)
        addresses, counted = np.full(shape, -1, np.int64), np.zeros(shape, np.bool_)
        positions, segments = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, index in enumerate(indices):
            start = 0
            for number, record in enumerate(self.rows[index]):
                ids, mask = self.records.record(record)
                end = start + len(ids)
                tokens[row, start:end] = ids
                addresses[row, start:end] = self.records.starts[record] + np.arange(len(ids))
                counted[row, start : end - 1] = mask[1:]
                positions[row, start:end] = np.arange(len(ids))
                segments[row, start:end] = number
                start = end
            positions[row, start:] = np.arange(self.seq_length - start)
            segments[row, start:] = len(self.rows[index])
        return Samples(addresses=addresses, tokens=tokens, counted=counted, positions=positions, segments=segments)

    def shuffled(self, position: int, count: int, seed: int) -> NDArray[np.int64]:
        """Indices of the training samples [position, position + count), a new seeded permutation every pass over the
        rows."""
        return shuffled(len(self), position, count, seed)
