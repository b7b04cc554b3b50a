"""What each key of a study does to an objective, with uncertainty: an additive model of the trials.

A listed value has an effect of its own, a range a parabola (a line where there are few trials). The effect of a key is
the step from its worst to its best fitted value, other keys equal. These two are picked from the same trials, so its
interval covers the steps between any two values at once: its half width is what 95% of fits to resampled trials stay
within, whichever two are compared. Keys that act only together are not seen by an additive model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.report.study import KeyEffect
from conf.study import Point, Range
from conf.trials import shown

RESAMPLES = 400
FAR = 3.0
"""Trials further above the median than this many spreads (quartile distances) would decide the fit alone."""
SPARE = 3
"""Trials needed beyond the coefficients of the model."""
LEAST = 0.5
"""Share of the resamples that must determine the fit."""


@dataclass(frozen=True)
class _Column:
    """One key: its values in the trials, and its part of the model."""

    key: str
    values: list[Any]
    design: NDArray[np.float64]


def usual(values: Sequence[float], *, lower: bool) -> list[int]:
    """Indices of the trials that are not far worse than the rest."""
    sign = 1.0 if lower else -1.0
    scores = sign * np.array(values)
    low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75))
    limit = middle + FAR * (high - low)
    return [index for index, score in enumerate(scores) if score <= limit or high == low]


def effects(
    space: dict[str, Range | tuple[Any, ...]], points: Sequence[Point], values: Sequence[float], *, lower: bool
) -> tuple[KeyEffect, ...] | None:
    """The effect of each key on an objective, the largest first; None where the trials are too few."""
    for power in (2, 1):
        columns = [column for key in space if (column := _column(key, space[key], points, power))]
        if columns and len(points) >= 1 + sum(column.design.shape[1] for column in columns) + SPARE:
            break
    else:
        return None
    target = np.array(values)
    fitted = _fit(columns, target, np.arange(len(target)))
    if fitted is None:
        return None
    widths = _widths(columns, target, fitted)
    if widths is None:
        return None
    found = []
    for column, part, width in zip(columns, fitted, widths, strict=True):
        worst, best = _ends(part, lower)
        effect = float(part[best] - part[worst])
        found.append(
            KeyEffect(
                key=column.key,
                worst=shown(column.values[worst]),
                best=shown(column.values[best]),
                effect=effect,
                low=effect - width,
                high=effect + width,
            )
        )
    return tuple(sorted(found, key=lambda each: (-abs(each.effect), each.key)))


def _widths(
    columns: list[_Column], target: NDArray[np.float64], fitted: list[NDArray[np.float64]]
) -> list[float] | None:
    """Half width of each key's interval; None where too few resamples determine the fit."""
    random, ranges = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        refit = _fit(columns, target, random.integers(0, len(target), len(target)))
        if refit is not None:
            ranges.append([float(np.ptp(again - part)) for again, part in zip(refit, fitted, strict=True)])
    if len(ranges) < LEAST * RESAMPLES:
        return None
    return [float(width) for width in np.quantile(np.array(ranges), 0.95, axis=0)]


def _column(key: str, values: Range | tuple[Any, ...], points: Sequence[Point], power: int) -> _Column | None:
    """The model's part for a key; None where all trials have one value of it."""
    tried = [point[key] for point in points]
    distinct = [value for value in values if value in tried] if isinstance(values, tuple) else sorted(set(tried))
    if len(distinct) < 2:
        return None
    if isinstance(values, tuple):
        design = np.array([[float(value == other) for other in distinct[1:]] for value in tried])
    else:
        place = np.array([_place(values, value) for value in tried])
        design = np.stack([place**each for each in range(1, min(power, len(distinct) - 1) + 1)], axis=1)
    return _Column(key, tried, design)


def _place(values: Range, value: float) -> float:
    """Where a value lies in its range, -1 to 1."""
    low, high, at = (math.log(each) if values.log else each for each in (values.low, values.high, value))
    return 2 * (at - low) / (high - low) - 1


def _fit(
    columns: list[_Column], target: NDArray[np.float64], rows: NDArray[np.int64]
) -> list[NDArray[np.float64]] | None:
    """The fitted part of each key, by trial; None where these rows do not determine it."""
    whole = np.concatenate([np.ones((len(target), 1)), *(column.design for column in columns)], axis=1)
    coefficients, _, rank, _ = np.linalg.lstsq(whole[rows], target[rows], rcond=None)
    if rank < whole.shape[1]:
        return None
    parts, start = [], 1
    for column in columns:
        width = column.design.shape[1]
        parts.append(column.design @ coefficients[start : start + width])
        start += width
    return parts


def _ends(part: NDArray[np.float64], lower: bool) -> tuple[int, int]:
    """Indices of the trials with the worst and the best fitted value."""
    order = (int(part.argmax()), int(part.argmin()))
    return order if lower else (order[1], order[0])
