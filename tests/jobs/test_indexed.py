"""Megatron's index files: ours are Megatron's to the byte, Megatron reads them, and a damaged one is refused."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder

from jobs.corpus.encoding import with_ends
from jobs.tokens import indexed
from jobs.tokens.indexed import IndexedTokens, IndexedWriter, token_dtype

DTYPES = {np.dtype(np.uint16): 50_257, np.dtype(np.int32): 128_256}
"""Token type -> a vocabulary that needs it."""


def write(prefix: Path, documents: list[list[int]], dtype: np.dtype, per_batch: int = 3) -> None:
    """Documents through our writer, some at a time as the data job does."""
    with IndexedWriter(prefix, dtype) as writer:
        for start in range(0, len(documents), per_batch):
            batch = documents[start : start + per_batch]
            flat = np.array([token for document in batch for token in document], dtype=dtype)
            writer.add(flat, np.array([len(document) for document in batch], np.int32))


def write_as_megatron(prefix: Path, documents: list[list[int]], dtype: np.dtype) -> None:
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype.type)
    for document in documents:
        builder.add_item(torch.tensor(document, dtype=torch.int64))
        builder.end_document()
    builder.finalize(f"{prefix}.idx")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(deadline=None)
@given(data=st.data())
def test_the_files_are_megatrons_to_the_byte(dtype: np.dtype, data: st.DataObject) -> None:
    tokens = st.integers(0, DTYPES[dtype] - 1)
    documents = data.draw(st.lists(st.lists(tokens, max_size=20), max_size=12))
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        write(ours, documents, dtype)
        write_as_megatron(theirs, documents, dtype)
        for suffix in (".bin", ".idx"):
            assert Path(f"{ours}{suffix}").read_bytes() == Path(f"{theirs}{suffix}").read_bytes()
        read = IndexedTokens(ours)
        assert read.lengths.tolist() == [len(document) for document in documents]
        assert read.tokens.tolist() == [token for document in documents for token in document]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_megatron_reads_them(tmp_path: Path, dtype: np.dtype) -> None:
    generator = np.random.default_rng(0)
    documents = [generator.integers(0, DTYPES[dtype], length).tolist() for length in (5, 1, 0, 300, 2)]
    write(tmp_path / "train", documents, dtype)
    read = IndexedDataset(str(tmp_path / "train"))
    assert [sequence.tolist() for sequence in read] == documents
    assert read.document_indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert read[3].dtype == dtype


@pytest.mark.parametrize("vocab_size", [2, 65_499, 65_500, 65_501, 65_535, 65_536, 128_256])
def test_the_token_type_is_megatrons_choice(vocab_size: int) -> None:
    assert token_dtype(vocab_size) == np.dtype(DType.optimal_dtype(vocab_size))


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=8))
def test_every_document_gets_one_end(documents: list[list[int]]) -> None:
    flat = np.array([token for document in documents for token in document], np.uint32)
    ids, lengths = with_ends(flat, np.array([len(document) for document in documents], np.int32), eod=99)
    assert ids.tolist() == [token for document in documents for token in [*document, 99]]
    assert lengths.tolist() == [len(document) + 1 for document in documents]


def test_an_interrupted_split_has_no_name(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="interrupted"),
        IndexedWriter(tmp_path / "train", np.dtype(np.uint16)) as writer,
    ):
        writer.add(np.arange(3), np.array([3], np.int32))
        raise RuntimeError("interrupted")
    with pytest.raises(ValueError, match=r"train\.idx does not exist"):
        IndexedTokens(tmp_path / "train")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def longer_than_it_is(path: Path) -> None:
    """An index that promises one token more than the tokens file holds."""
    raw = bytearray(path.read_bytes())
    raw[34:38] = struct.pack("<i", struct.unpack_from("<i", raw, 34)[0] + 1)
    path.write_bytes(raw)


def set_byte(path: Path, offset: int, value: int) -> None:
    """Set a byte of the header: Megatron's mark (9 bytes), a version (8), the code of the token type (1)."""
    raw = bytearray(path.read_bytes())
    raw[offset] = value
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda prefix: cut(prefix.with_suffix(".bin")), r"train\.bin is damaged"),
        (lambda prefix: cut(prefix.with_suffix(".idx")), r"train\.idx is damaged"),
        (lambda prefix: set_byte(prefix.with_suffix(".idx"), 9, 2), r"train\.idx is damaged"),
        (lambda prefix: set_byte(prefix.with_suffix(".idx"), 17, 99), r"train\.idx is damaged"),
        (lambda prefix: longer_than_it_is(prefix.with_suffix(".idx")), r"train\.bin is damaged"),
        (lambda prefix: prefix.with_suffix(".bin").unlink(), r"train\.bin does not exist"),
        (lambda prefix: prefix.with_suffix(".idx").write_bytes(b"not an index"), "not a Megatron index"),
    ],
    ids=[
        "tokens cut",
        "index cut",
        "another version",
        "another type",
        "index promises more",
        "tokens missing",
        "another format",
    ],
)
def test_a_damaged_split_is_refused(tmp_path: Path, damage, sentence: str) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / "train", [[1, 2, 3], [4]], np.dtype(np.uint16))
    damage(tmp_path / "train")
    with pytest.raises(ValueError, match=sentence):
        IndexedTokens(tmp_path / "train")


def test_a_token_is_counted_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed, "PIECE", 3)
    write(tmp_path / "some", [[7, 1], [2, 7, 7], [7], [3, 4]], np.dtype(np.uint16))
    read = IndexedTokens(tmp_path / "some")
    assert [read.times(token) for token in (7, 4, 9)] == [4, 1, 0]
    write(tmp_path / "none", [], np.dtype(np.int32))
    assert IndexedTokens(tmp_path / "none").times(7) == 0
