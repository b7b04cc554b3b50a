"""Token ids of many documents at once, by the `tokenizers` library, or by gigatoken where it is shown to give the same
ids."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from jobs.huggingface import tokenizer

Encode = Callable[[list[str]], tuple[NDArray[Any], NDArray[np.int32]]]
"""Texts -> (ids concatenated, number of ids of each text)."""

HARD = (
    "",
    " ",
    "\n\n",
    "<|endoftext|>",
    "</s><s>",
    "a" * 300,
    "\u00e9e\u0301",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\ufeff x",
    "12345,678.90",
    "\t\r\n ",
    "don't I'LL",
)
"""Texts on which tokenizers are known to differ; gigatoken is used only if it agrees on these and on random texts."""


def encoder(directory: Path, engine: str, sample: list[str]) -> tuple[Encode, str]:
    """The encoder for a tokenizer directory, and a sentence with the engine and why it was chosen.

    'auto' uses gigatoken if its ids equal those of `tokenizers` on `sample` and on hard cases; otherwise 'gigatoken'
    raises ValueError."""
    reference = _reference_encoder(directory)
    if engine == "tokenizers":
        return reference, "tokenizers, as configured"
    try:
        fast = _fast_encoder(directory)
        difference = _difference(reference, fast, [*sample, *HARD, *_random_texts()])
    except Exception as error:  # noqa: BLE001
        # gigatoken raises untyped errors and Rust panics for unknown tokenizers; whatever the error, it is not used.
        difference = f"it cannot load or run this tokenizer ({type(error).__name__}: {str(error)[:120]})"
    if difference is None:
        return (
            fast,
            f"gigatoken, equal to tokenizers on {len(sample)} documents of this corpus and {len(HARD)} hard cases",
        )
    if engine == "gigatoken":
        raise ValueError(f"data.engine is gigatoken but {difference}; choose tokenizers or auto")
    return reference, f"tokenizers, since gigatoken was rejected: {difference}"


def with_ends(ids: NDArray[Any], lengths: NDArray[np.int32], eod: int) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Put one end-of-document id after each document."""
    ends = np.cumsum(lengths, dtype=np.int64) + np.arange(len(lengths))
    result = np.empty(len(ids) + len(lengths), dtype=ids.dtype)
    is_token = np.ones(len(result), dtype=bool)
    is_token[ends] = False
    result[is_token] = ids
    result[ends] = eod
    return result, lengths + np.int32(1)


def without_ends(
    ids: NDArray[Any], lengths: NDArray[np.int32], eod: int
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int64]]:
    """Ids and lengths without the texts whose own ids hold the end-of-document id, and the numbers of those texts.
    Tokenizers have such texts whose end token is not marked as special, or is an ordinary piece of their vocabulary."""
    found = np.flatnonzero(ids == eod)
    if len(found) == 0:
        return ids, lengths, np.empty(0, np.int64)
    ends = np.cumsum(lengths, dtype=np.int64)
    texts = np.unique(np.searchsorted(ends, found, side="right"))
    kept = np.ones(len(lengths), dtype=bool)
    kept[texts] = False
    return ids[np.repeat(kept, lengths)], lengths[kept], texts


def _reference_encoder(directory: Path) -> Encode:
    encoder = tokenizer.load(directory)

    def encode(texts: list[str]) -> tuple[NDArray[Any], NDArray[np.int32]]:
        encodings = encoder.encode_batch_fast(texts, add_special_tokens=False)
        flat = array("I")
        for encoding in encodings:
            # One document's list at a time, to keep memory low.
            flat.fromlist(encoding.ids)
        return np.array(flat, np.uint32), np.fromiter(map(len, encodings), np.int32, len(encodings))

    return encode


def _fast_encoder(directory: Path) -> Encode:
    import gigatoken

    content = orjson.loads((directory / "tokenizer.json").read_bytes())
    # gigatoken always matches special tokens in text; without special tokens no text can forge a boundary.
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["special"]]
    encoder = gigatoken.Tokenizer.from_json(orjson.dumps(content | {"post_processor": None}).decode())

    def encode(texts: list[str]) -> tuple[NDArray[Any], NDArray[np.int32]]:
        layout = encoder.encode_batch(texts).layout
        offsets = np.asarray(layout.offsets.data)
        flat = np.asarray(layout.content.data)
        return flat[offsets[0] : offsets[-1]], np.diff(offsets).astype(np.int32)

    return encode


def _difference(reference: Encode, fast: Encode, texts: list[str]) -> str | None:
    ids, lengths = reference(texts)
    fast_ids, fast_lengths = fast(texts)
    parts, fast_parts = (
        np.split(flat, np.cumsum(counts)[:-1]) for flat, counts in ((ids, lengths), (fast_ids, fast_lengths))
    )
    for text, expected, found in zip(texts, parts, fast_parts, strict=True):
        if not np.array_equal(expected, found):
            return f"its ids differ on {ascii(text)[:60]}"
    return None


def _random_texts() -> list[str]:
    generator = random.Random(0)
    ranges = ((32, 127), (0xA0, 0x500), (0x4E00, 0x5000), (0x1F300, 0x1F600), (1, 32))
    return [
        "".join(chr(generator.randrange(*generator.choice(ranges))) for _ in range(generator.randrange(1, 60)))
        for _ in range(500)
    ]
