"""Words of a text, the same for all comparisons of texts."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+")
FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd, from the golden ratio: spreads the bits of the product."""


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, in Unicode's compatibility form, without punctuation and underscores."""
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return WORD.findall(folded.replace("_", " "))


def ngrams(ids: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """A hash of every run of `length` ids [n] -> [n - length + 1]; empty where there are fewer ids. Equal runs have
    equal hashes; different ones collide with probability 2^-64."""
    if len(ids) < length:
        return np.empty(0, np.uint64)
    return fold(np.lib.stride_tricks.sliding_window_view(ids, length))


def fold(rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One hash a row [n, m] -> [n]."""
    hashes = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        hashes = mixed(hashes, column)
    return hashes


def mixed(hashes: NDArray[np.uint64], more: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hashes [n] of what they stood for, followed by `more` [n]."""
    hashes = (hashes ^ more) * FACTOR
    hashes ^= hashes >> np.uint64(29)
    return hashes
