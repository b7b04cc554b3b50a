"""Intervals and tests against published examples and by their own laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tasks.statistics import mcnemar, paired_difference, wilson

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)


def answers(both: int, ours: int, theirs: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Two models' answers from the four counts of a paired table."""
    pairs = [(True, True)] * both + [(True, False)] * ours + [(False, True)] * theirs + [(False, False)] * neither
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def test_wilson_as_published() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    for correct, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]:
        assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_paired_difference_as_published() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 2635-2650, table II, method 10.
    for counts, low, high in [((36, 12, 2, 0), 0.0569, 0.3404), ((0, 12, 2, 36), 0.0569, 0.3404), ((0, 0, 0, 50), -0.0713, 0.0713)]:
        n = sum(counts)
        assert paired_difference(*answers(*counts)) == pytest.approx(((counts[1] - counts[2]) / n, low, high), abs=1e-4)


@given(PAIRS)
def test_the_interval_holds_the_difference_and_turns_with_the_sides(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    difference, low, high = paired_difference(ours, theirs)
    assert difference == pytest.approx((sum(ours) - sum(theirs)) / len(pairs))
    assert -1 - 1e-9 <= low <= difference + 1e-9
    assert difference - 1e-9 <= high <= 1 + 1e-9
    assert mcnemar(ours, theirs) == mcnemar(theirs, ours)


@given(PAIRS)
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    wins = sum(a and not b for a, b in pairs)
    losses = sum(b and not a for a, b in pairs)
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar(ours, theirs) == pytest.approx(expected)


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_holds_the_share_within_nought_and_one(correct: int, n: int) -> None:
    correct = min(correct, n)
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= high <= 1
