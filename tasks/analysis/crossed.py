"""The difference of two models over seeds and items together.

Each seed's models answer the same items (test sequences or questions), so that a difference has two sources of chance:
which seeds, and which items. Its variance is that of the means over seeds plus that of the means over items, with
Satterthwaite's degrees of freedom."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tasks.analysis.statistics import student_t


def crossed_interval(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean of differences [seeds, items] and its 95% interval over both; unbounded with a single seed or item."""
    mean = float(differences.mean())
    if min(differences.shape) < 2:
        return mean, -math.inf, math.inf
    variances = [float(np.var(differences.mean(1 - axis), ddof=1)) / differences.shape[axis] for axis in (0, 1)]
    total = sum(variances)
    if total == 0:
        return mean, mean, mean
    pairs = zip(variances, differences.shape, strict=True)
    freedom = total**2 / sum(variance**2 / (count - 1) for variance, count in pairs)
    half = student_t(0.975, freedom) * math.sqrt(total)
    return mean, mean - half, mean + half
