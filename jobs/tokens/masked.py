"""Tokenized records of a split: Megatron's `.bin/.idx` with one record per document, and `.mask` with one byte per
token: 1 where it is learned.

A token's address is (record, position in it), as in a corpus split, however records are packed later."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.tokens.indexed import IndexedTokens, IndexedWriter


class MaskedWriter:
    """Writes one split; its files get their final names only after a clean end."""

    def __init__(self, prefix: Path, dtype: np.dtype[Any]) -> None:
        self.prefix = prefix
        self._tokens = IndexedWriter(prefix, dtype)
        self._mask = _mask_file(prefix).with_suffix(".mask.partial").open("wb")

    def add(self, ids: list[int], mask: list[bool]) -> None:
        """Append a record."""
        assert len(ids) == len(mask), "ids and mask disagree"
        self._tokens.add(np.asarray(ids), np.asarray([len(ids)], np.int32))
        self._mask.write(bytes(mask))

    def __enter__(self) -> MaskedWriter:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mask.close()
        if error_type is None:
            Path(self._mask.name).rename(_mask_file(self.prefix))
        self._tokens.__exit__(error_type, error, trace)


class MaskedTokens(IndexedTokens):
    """A split memory-mapped for reading: tokens, lengths, `starts` of its records and the `mask`. Raises ValueError
    where a file is damaged."""

    def __init__(self, prefix: Path) -> None:
        super().__init__(prefix)
        path = _mask_file(prefix)
        if not path.is_file() or path.stat().st_size != len(self.tokens):
            num_bytes = path.stat().st_size if path.is_file() else "no"
            raise ValueError(f"{path} has {num_bytes} bytes for {len(self.tokens)} tokens; run the records stage again")
        self.mask: NDArray[np.bool_] = (
            np.memmap(path, np.bool_, mode="r") if len(self.tokens) else np.zeros(0, np.bool_)
        )
        self.starts = np.zeros(len(self.lengths) + 1, np.int64)
        np.cumsum(self.lengths, out=self.starts[1:])

    def record(self, number: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Tokens and mask of one record."""
        part = slice(int(self.starts[number]), int(self.starts[number + 1]))
        return self.tokens[part], self.mask[part]


def _mask_file(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".mask")
