"""Statistics of scores: intervals for one model, and for the difference of two models on the same items."""

from __future__ import annotations

import math
from statistics import NormalDist

Z95 = 1.959963984540054


def quantile(confidence: float) -> float:
    """Half-width, in standard errors, of a two-sided normal interval of this confidence (0 to 1)."""
    return Z95 if confidence == 0.95 else NormalDist().inv_cdf(0.5 + confidence / 2)


def student_t(probability: float, freedom: float) -> float:
    """Quantile of Student's t at `probability` with `freedom` degrees of freedom."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy.stats takes seconds to import

    return float(stdtrit(freedom, probability))


def wilson(correct: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of the proportion correct / n; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = correct / n, z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At 0 and n the bound is exactly 0 and 1; rounding would miss it.
    return 0.0 if correct == 0 else centre - half, 1.0 if correct == n else centre + half


Counts = tuple[float, float, float, float]
"""Counts of items: both models right, only the first, only the second, neither."""


def counts(ours: list[bool], theirs: list[bool]) -> Counts:
    """The 2 x 2 table of two models' answers to the same items."""
    assert len(ours) == len(theirs), "paired scores need the same items"
    both = sum(x and y for x, y in zip(ours, theirs, strict=True))
    return both, sum(ours) - both, sum(theirs) - both, len(ours) - sum(ours) - sum(theirs) + both


def paired_difference(ours: list[bool], theirs: list[bool]) -> tuple[float, float, float]:
    """Difference of two proportions on the same items and its 95% interval (Newcombe)."""
    return newcombe(counts(ours, theirs))


def newcombe(table: Counts, z: float = Z95) -> tuple[float, float, float]:
    """Difference of two paired proportions and its interval: Newcombe's method 10 (Statist. Med. 17, 1998)."""
    a, b, c, d = table
    n = sum(table)
    p1, p2 = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = wilson(a + b, n, z), wilson(a + c, n, z)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins:
        numerator: float = a * d - b * c
        numerator = max(numerator - n / 2, 0.0) if numerator > 0 else numerator
        phi = numerator / math.sqrt(margins)
    else:
        phi = 0.0
    low = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    high = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    difference = p1 - p2
    return difference, difference - math.sqrt(max(low, 0.0)), difference + math.sqrt(max(high, 0.0))


def bonett_price(table: Counts, z: float = Z95) -> tuple[float, float, float]:
    """Ratio of two paired proportions and its hybrid Wilson interval: Bonett and Price (Statist. Med. 25, 2006); nan
    where neither is right on any item."""
    a, b, c, _ = table
    n, ours, theirs = a + b + c, a + b, a + c
    if n == 0:
        return math.nan, 0.0, math.inf
    spread = math.sqrt((b + c + 2) / ((ours + 1) * (theirs + 1)))
    parts = [math.sqrt((1 - (count + 1) / (n + 2)) / (count + 1)) for count in (ours, theirs)]
    narrowed = z * spread / sum(parts)
    (low, high), (their_low, their_high) = wilson(ours, n, narrowed), wilson(theirs, n, narrowed)
    ratio = ours / theirs if theirs else math.inf
    return ratio, low / their_high, high / their_low if their_low else math.inf


def mcnemar(ours: list[bool], theirs: list[bool]) -> float:
    """Exact two-sided McNemar p-value of no difference, from the items where exactly one of the two is right."""
    wins = sum(x and not y for x, y in zip(ours, theirs, strict=True))
    losses = sum(y and not x for x, y in zip(ours, theirs, strict=True))
    n = wins + losses
    if n == 0:
        return 1.0
    tail: float = sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2.0**n
    return min(1.0, 2 * tail)


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean of independent values and its 95% interval (Student's t); infinite for a single value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, -math.inf, math.inf
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = student_t(0.975, n - 1) * spread / math.sqrt(n)
    return mean, mean - half, mean + half


def finite(low: float, high: float) -> tuple[float, float] | None:
    """The interval; None where it is unbounded, as that of a single value is."""
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
