"""Which engine turns text into ids: gigatoken only where it gives the ids of tokenizers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.corpus import encoding
from jobs.corpus.encoding import Encode, encoder, with_ends
from jobs.huggingface import tokenizer

SAMPLE = ["one fox", "two wolves and a hare", "three"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    tokenizer.train(iter([*SAMPLE, "a fox asks a wolf for three hares"]), 300, folder)
    return folder


def altered(change: Callable[[Any, Any], tuple[Any, Any]], text: str) -> Callable[[Path], Encode]:
    """A fast encoder that is wrong on one text, wherever it stands in a batch."""

    def fast(directory: Path) -> Encode:
        reference = encoder(directory, "tokenizers", [])[0]

        def encode(texts: list[str]) -> tuple[Any, Any]:
            parts = [reference([one])[0] for one in texts]
            parts = [change(part, one)[0] if one == text else part for part, one in zip(parts, texts, strict=True)]
            return np.concatenate(parts), np.array([len(part) for part in parts], np.int32)

        return encode

    return fast


WRONG = {
    "other ids, as many": lambda ids, _: (ids[::-1], None),
    "one id less": lambda ids, _: (ids[:-1], None),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_engine_with_other_ids_is_rejected_by_text(
    directory: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(encoding, "_fast_encoder", altered(WRONG[name], SAMPLE[1]))
    encode, why = encoder(directory, "auto", SAMPLE)
    assert why == f"tokenizers, since gigatoken was rejected: its ids differ on '{SAMPLE[1]}'"
    assert np.array_equal(encode(SAMPLE)[0], encoder(directory, "tokenizers", SAMPLE)[0](SAMPLE)[0])
    with pytest.raises(ValueError, match=r"data\.engine is gigatoken but its ids differ on 'two wolves"):
        encoder(directory, "gigatoken", SAMPLE)


def test_an_engine_that_fails_is_rejected(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> Encode:
        raise RuntimeError("no such pre-tokenizer")

    monkeypatch.setattr(encoding, "_fast_encoder", broken)
    assert "cannot load or run this tokenizer (RuntimeError: no such" in encoder(directory, "auto", SAMPLE)[1]


def test_an_equal_engine_is_taken(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_fast_encoder", lambda path: encoder(path, "tokenizers", [])[0])
    assert encoder(directory, "auto", SAMPLE)[1].startswith("gigatoken, equal to tokenizers on 3 documents")
    assert encoder(directory, "tokenizers", SAMPLE)[1] == "tokenizers, as configured"


def test_random_texts_cover_five_ranges() -> None:
    texts = "".join(encoding._random_texts())
    ranges = ((32, 127), (0xA0, 0x500), (0x4E00, 0x5000), (0x1F300, 0x1F600), (1, 32))
    counts = [sum(first <= ord(letter) < end for letter in texts) for first, end in ranges]
    assert sum(counts) == len(texts) and min(counts) > 1000
    assert chr(127) not in texts


def test_each_document_ends_with_its_mark() -> None:
    ids, lengths = with_ends(np.array([1, 2, 3], np.uint16), np.array([2, 0, 1], np.int32), 9)
    assert (ids.tolist(), lengths.tolist()) == ([1, 2, 9, 9, 3, 9], [3, 1, 2])
