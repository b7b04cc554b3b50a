"""Intervals and tests against published examples and by their own laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from jobs.evaluation import mmlu
from tasks.analysis.statistics import mcnemar, paired_difference, wilson

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)


def answers(both: int, ours: int, theirs: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Two models' answers from the four counts of a paired table."""
    pairs = [(True, True)] * both + [(True, False)] * ours + [(False, True)] * theirs + [(False, False)] * neither
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def test_wilson_as_published() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    for correct, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_paired_difference_as_published() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 2635-2650, table II, method 10.
    for counts, low, high in [
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((0, 12, 2, 36), 0.0569, 0.3404),
        ((0, 0, 0, 50), -0.0713, 0.0713),
    ]:
        n = sum(counts)
        assert paired_difference(*answers(*counts)) == pytest.approx(((counts[1] - counts[2]) / n, low, high), abs=1e-4)


def test_paired_examples_of_the_literature() -> None:
    # Armitage and Berry, Statistical Methods in Medical Research (1994), p. 127: two media for tubercle bacilli, as
    # StatsDirect has it.
    assert mcnemar(*answers(20, 12, 2, 16)) == pytest.approx(0.0129, abs=5e-5)
    # Fagerland, Lydersen and Laake, BMC Med. Res. Methodol. 13:91 (2013) and Stat. Med. 33 (2014) 2850-2875, airway
    # hyper-responsiveness: exact conditional p and Newcombe's interval; and complete response after consolidation, p.
    airway = answers(1, 1, 7, 12)
    assert mcnemar(*airway) == pytest.approx(0.0703, abs=5e-5)
    assert paired_difference(*airway) == pytest.approx((-0.286, -0.507, -0.026), abs=5e-4)
    assert mcnemar(*answers(59, 6, 16, 80)) == pytest.approx(0.0525, abs=5e-5)


def test_without_a_difference_nothing_is_shown() -> None:
    same = answers(30, 0, 0, 20)
    difference, low, high = paired_difference(*same)
    assert difference == 0
    assert low == pytest.approx(-high)
    assert high > 0
    assert mcnemar(*same) == 1.0


@given(PAIRS)
def test_swapped_sides_swap_the_interval(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    difference, low, high = paired_difference(ours, theirs)
    assert paired_difference(theirs, ours) == pytest.approx((-difference, -high, -low))
    wrong = [not answer for answer in ours], [not answer for answer in theirs]
    assert paired_difference(*wrong) == pytest.approx((-difference, -high, -low)), (
        "counting errors instead of answers turns it around"
    )


@given(st.integers(0, 100), st.integers(1, 100), st.integers(2, 6))
def test_more_of_the_same_narrows_the_interval(correct: int, n: int, times: int) -> None:
    low, high = wilson(min(correct, n), n)
    more_low, more_high = wilson(times * min(correct, n), times * n)
    assert more_high - more_low < high - low


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
    assert 0 <= low <= correct / n <= high <= 1
    assert (low == 0) == (correct == 0)
    assert (high == 1) == (correct == n)
    assert wilson(n - correct, n) == pytest.approx((1 - high, 1 - low))
    assert mmlu.wilson(correct, n) == pytest.approx([low, high]), "the job's own"
    assert mmlu.wilson(correct, n)[0] <= correct / n <= mmlu.wilson(correct, n)[1]


def test_without_questions_anything_is_possible() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
