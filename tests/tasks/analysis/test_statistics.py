"""Intervals and tests against published examples and by their own laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import binomtest

from jobs.evaluation import mmlu
from tasks.analysis.statistics import (
    bonett_price,
    counts,
    finite,
    mcnemar,
    mean_interval,
    newcombe,
    paired_difference,
    quantile,
    student_t,
    wilson,
)

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
    for table, low, high in [
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((0, 12, 2, 36), 0.0569, 0.3404),
        ((0, 0, 0, 50), -0.0713, 0.0713),
    ]:
        n = sum(table)
        assert paired_difference(*answers(*table)) == pytest.approx(((table[1] - table[2]) / n, low, high), abs=1e-4)


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
def test_the_interval_turns_with_the_sides(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    difference, low, high = paired_difference(ours, theirs)
    assert difference == pytest.approx((sum(ours) - sum(theirs)) / len(pairs))
    assert -1 - 1e-9 <= low <= difference + 1e-9
    assert difference - 1e-9 <= high <= 1 + 1e-9
    assert mcnemar(ours, theirs) == mcnemar(theirs, ours)


@given(PAIRS)
def test_mcnemar_is_the_binomial_test_of_discordant_pairs(pairs: list[tuple[bool, bool]]) -> None:
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


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
def test_the_quantile_is_the_normal_ones(confidence: float) -> None:
    assert quantile(confidence) == pytest.approx(stats.norm.ppf(0.5 + confidence / 2), abs=1e-12)


@pytest.mark.parametrize("freedom", [1, 2.5, 30, 1000])
@pytest.mark.parametrize("probability", [0.9, 0.975])
def test_students_quantile_is_scipys(freedom: float, probability: float) -> None:
    assert student_t(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom))


@pytest.mark.parametrize(("correct", "n"), [(0, 7), (1, 7), (7, 7), (81, 263), (499, 500)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_is_scipys(correct: int, n: int, confidence: float) -> None:
    expected = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    assert wilson(correct, n, quantile(confidence)) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30).filter(lambda values: max(values) - min(values) > 1e-3))
def test_the_mean_has_students_interval(values: list[float]) -> None:
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    mean, low, high = mean_interval(values)
    assert mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_single_value_has_no_interval() -> None:
    assert mean_interval([2.0]) == (2.0, -math.inf, math.inf)


def test_only_a_bounded_interval_is_finite() -> None:
    assert finite(0.0, 1.0) == (0.0, 1.0)
    assert finite(-math.inf, 1.0) is None and finite(0.0, math.inf) is None


def test_the_paired_table_counts_all_four() -> None:
    assert counts(*answers(5, 3, 2, 4)) == (5, 3, 2, 4)


def phi_interval(a: int, b: int, c: int, d: int, confidence: float) -> tuple[float, float]:
    """Newcombe's method 10 written out with scipy's Wilson intervals."""
    n = a + b + c + d
    (l1, u1), (l2, u2) = (binomtest(right, n).proportion_ci(confidence, method="wilson") for right in (a + b, a + c))
    p1, p2 = (a + b) / n, (a + c) / n
    product = (a + b) * (c + d) * (a + c) * (b + d)
    numerator = a * d - b * c
    corrected = max(numerator - n / 2, 0) if numerator > 0 else numerator
    phi = corrected / math.sqrt(product) if product else 0.0
    low = math.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    high = math.sqrt((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    return p1 - p2 - low, p1 - p2 + high


@pytest.mark.parametrize(
    "table", [(36, 12, 2, 5), (20, 4, 6, 30), (3, 9, 8, 2), (0, 5, 5, 0), (10, 0, 0, 10), (5, 2, 3, 4)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_newcombe_with_scipys_parts(table: tuple[int, int, int, int], confidence: float) -> None:
    difference, low, high = newcombe(table, quantile(confidence))
    assert difference == pytest.approx((table[1] - table[2]) / sum(table))
    assert (low, high) == pytest.approx(phi_interval(*table, confidence))


@pytest.mark.parametrize("table", [(1, 1, 7, 12), (36, 12, 2, 5), (20, 4, 6, 30)])
@pytest.mark.parametrize("z", [1.6449, 1.96])
def test_bonett_price_written_out(table: tuple[int, int, int, int], z: float) -> None:
    # Bonett and Price (2006), equations 3 and 4: Wilson limits of both proportions at a narrowed z, divided crosswise.
    a, b, c, _ = table
    n, x1, x2 = a + b + c, a + b, a + c
    spread = math.sqrt((b + c + 2) / ((x1 + 1) * (x2 + 1)))
    s1, s2 = (math.sqrt((1 - (x + 1) / (n + 2)) / (x + 1)) for x in (x1, x2))
    level = 2 * stats.norm.cdf(z * spread / (s1 + s2)) - 1
    (l1, u1), (l2, u2) = (binomtest(x, n).proportion_ci(level, method="wilson") for x in (x1, x2))
    assert bonett_price(table, z) == pytest.approx((x1 / x2, l1 / u2, u1 / l2))


def test_a_ratio_to_nothing_is_unbounded() -> None:
    ratio, low, high = bonett_price((0, 3, 0, 2))
    assert (ratio, high) == (math.inf, math.inf) and 0 < low < math.inf
    assert bonett_price((0, 0, 4, 2))[0] == 0
    value, low, high = bonett_price((0, 0, 0, 5))
    assert math.isnan(value) and (low, high) == (0.0, math.inf)


def test_pairs_need_the_same_items() -> None:
    with pytest.raises(AssertionError, match="same items"):
        counts([True], [True, False])
