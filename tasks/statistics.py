"""How sure a score is: intervals for one model, and for the difference of two that answered the same questions."""

from __future__ import annotations

import math

Z95 = 1.959963984540054


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95% Wilson score interval of a proportion."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = correct / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the bound is the share itself, which rounding would miss.
    return 0.0 if correct == 0 else centre - half, 1.0 if correct == n else centre + half


def paired_difference(ours: list[bool], theirs: list[bool]) -> tuple[float, float, float]:
    """Difference of two proportions on the same items and its 95% interval: Newcombe's method 10 (Statist. Med. 17, 1998)."""
    assert len(ours) == len(theirs), "paired scores need the same items"
    n = len(ours)
    a = sum(x and y for x, y in zip(ours, theirs, strict=True))
    b, c = sum(ours) - a, sum(theirs) - a
    d = n - a - b - c
    p1, p2 = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = wilson(a + b, n), wilson(a + c, n)
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


def mcnemar(ours: list[bool], theirs: list[bool]) -> float:
    """Exact two-sided p-value that the two are equally often right, from the items where exactly one of them is."""
    wins = sum(x and not y for x, y in zip(ours, theirs, strict=True))
    losses = sum(y and not x for x, y in zip(ours, theirs, strict=True))
    n = wins + losses
    if n == 0:
        return 1.0
    tail: float = sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2.0**n
    return min(1.0, 2 * tail)
