"""Words and hashes that all comparisons of texts share."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.curation.words import fold, mixed, ngrams, words_of

IDS = np.arange(6, dtype=np.uint64)


def test_words_have_no_case_punctuation_or_underscores() -> None:
    assert words_of("Snake_case, UPPER-case: \uff21\u00df") == ["snake", "case", "upper", "case", "ass"]


@pytest.mark.parametrize(("length", "runs"), [(1, 6), (5, 2), (6, 1), (7, 0)])
def test_each_run_has_a_hash(length: int, runs: int) -> None:
    found = ngrams(IDS, length)
    assert (found.shape, found.dtype, len(set(found.tolist()))) == ((runs,), np.uint64, runs)


def test_a_hash_depends_on_the_order() -> None:
    assert fold(np.array([[1, 2], [2, 1], [1, 2]], np.uint64)).tolist().count(fold(IDS[None, 1:3])[0]) == 2


def test_hashes_never_change() -> None:
    """Written out in whole numbers: hashes of questions and documents are compared across processes and releases."""
    expected = []
    for first in range(4):
        value = 0
        for more in range(first, first + 3):
            value = (value ^ more) * 0x9E3779B97F4A7C15 % 2**64
            value ^= value >> 29
        expected.append(value)
    assert ngrams(IDS, 3).tolist() == expected
    assert mixed(ngrams(IDS[:2], 2), IDS[2:3]).tolist() == expected[:1]
