"""Megatron's IndexedDataset files, written and memory-mapped without importing torch or Megatron, which takes seconds.

A split is `<prefix>.bin`, its concatenated tokens, and `<prefix>.idx`, a 34-byte header, lengths, byte offsets and
document bounds."""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"MMIDIDX\x00\x00"
PIECE = 1 << 22
"""Tokens read at once."""
HEADER = struct.Struct("<9sQBQQ")
CODES: dict[int, np.dtype[Any]] = {4: np.dtype(np.int32), 8: np.dtype(np.uint16)}
"""Megatron's codes of the two token types it chooses from."""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 while every id fits it by Megatron's rule (fewer than 65,500 ids), else int32."""
    return np.dtype(np.uint16) if vocab_size < 65_500 else np.dtype(np.int32)


class IndexedWriter:
    """Writes one split, one document per sequence; the files get their final names in `close`, and never after an
    error."""

    def __init__(self, prefix: Path, dtype: np.dtype[Any]) -> None:
        self.prefix, self.dtype = prefix, dtype
        self.lengths: list[NDArray[np.int32]] = []
        self._bin = _partial(prefix, ".bin").open("wb", buffering=1 << 20)

    def add(self, tokens: NDArray[Any], lengths: NDArray[np.int32]) -> None:
        """Append concatenated documents; `lengths` (tokens of each) must sum to `len(tokens)`."""
        assert int(lengths.sum()) == len(tokens), "lengths and tokens disagree"
        self._bin.write(np.ascontiguousarray(tokens, dtype=self.dtype).data)
        self.lengths.append(lengths)

    def __enter__(self) -> IndexedWriter:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error_type is None:
            self.close()
        else:
            self._bin.close()

    def close(self) -> None:
        """Write the index and give both files their final names, the index last."""
        self._bin.close()
        lengths = np.concatenate(self.lengths) if self.lengths else np.zeros(0, np.int32)
        offsets = np.zeros(len(lengths), np.int64)
        np.cumsum(lengths[:-1].astype(np.int64) * self.dtype.itemsize, out=offsets[1:])
        code = next(code for code, dtype in CODES.items() if dtype == self.dtype)
        with _partial(self.prefix, ".idx").open("wb") as stream:
            stream.write(HEADER.pack(MAGIC, 1, code, len(lengths), len(lengths) + 1))
            stream.write(lengths.astype(np.int32).tobytes())
            stream.write(offsets.tobytes())
            stream.write(np.arange(len(lengths) + 1, dtype=np.int64).tobytes())
        for suffix in (".bin", ".idx"):
            _partial(self.prefix, suffix).rename(_named(self.prefix, suffix))


class IndexedTokens:
    """A split memory-mapped for reading: `tokens` (all, concatenated) and `lengths` (int32, per document,
    end-of-document included).

    Raises ValueError where a file is missing, is not in this format, or differs in size from what the index says."""

    def __init__(self, prefix: Path) -> None:
        index, data = _named(prefix, ".idx"), _named(prefix, ".bin")
        for path in (index, data):
            if not path.is_file():
                raise ValueError(f"{path} does not exist; run the data stage again")
        content = index.read_bytes()
        if len(content) < HEADER.size or not content.startswith(MAGIC):
            raise ValueError(f"{index} is not a Megatron index; run the data stage again")
        _, version, code, sequences, documents = HEADER.unpack_from(content)
        expected_length = HEADER.size + 12 * sequences + 8 * documents
        if version != 1 or code not in CODES or len(content) != expected_length:
            raise ValueError(
                f"{index} is damaged: {len(content)} bytes where its header needs {expected_length}; run the data stage"
                " again"
            )
        self.lengths: NDArray[np.int32] = np.frombuffer(content, np.int32, sequences, HEADER.size)
        expected_bytes, actual_bytes = int(self.lengths.sum(dtype=np.int64)) * CODES[code].itemsize, data.stat().st_size
        if expected_bytes != actual_bytes:
            raise ValueError(
                f"{data} is damaged: {actual_bytes} bytes where its index needs {expected_bytes}; run the data stage"
                " again"
            )
        self._data, empty = data, np.zeros(0, CODES[code])
        self.tokens: NDArray[Any] = np.memmap(data, dtype=CODES[code], mode="r") if actual_bytes else empty

    def __len__(self) -> int:
        return len(self.lengths)

    def times(self, token: int) -> int:
        """How often a token occurs; the file is read in pieces, as its mapped pages would stay in memory."""
        count = 0
        with self._data.open("rb") as stream:
            while len(piece := np.fromfile(stream, self.tokens.dtype, PIECE)):
                count += int((piece == token).sum())
        return count


def _named(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _partial(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix + ".partial")
