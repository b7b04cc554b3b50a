"""Intervals of shares."""

from __future__ import annotations

import math

NORMAL_95 = 1.959964
"""Two-sided 95% quantile of the normal distribution."""


def wilson(num_right: float, n: int) -> list[float]:
    """95% interval of a proportion (Wilson 1927): within 0 to 1 even where nothing or everything was right."""
    z2 = NORMAL_95**2
    centre = (num_right + z2 / 2) / (n + z2)
    half = NORMAL_95 / (n + z2) * math.sqrt(num_right * (n - num_right) / n + z2 / 4)
    # At the ends the bound is the proportion itself, which rounding would miss.
    return [0.0 if num_right == 0 else centre - half, 1.0 if num_right == n else centre + half]
