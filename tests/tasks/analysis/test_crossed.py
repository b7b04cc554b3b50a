"""Intervals that hold both seeds and items: they cover as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tasks.analysis.crossed import crossed_interval
from tasks.analysis.statistics import mean_interval


@pytest.mark.parametrize(("of_seeds", "of_items"), [(0.1, 0.3), (0.0, 0.3), (0.2, 0.0)])
def test_the_interval_covers_nineteen_times_of_twenty(of_seeds: float, of_items: float) -> None:
    random, covered = np.random.default_rng(7), 0
    for _ in range(600):
        seeds, items = random.normal(0, of_seeds, (3, 1)), random.normal(0, of_items, (1, 60))
        _, low, high = crossed_interval(seeds + items + random.normal(0, 0.5, (3, 60)))
        covered += low <= 0 <= high
    assert covered >= 0.92 * 600


def test_items_alone_would_be_too_sure() -> None:
    random, covered = np.random.default_rng(7), 0
    for _ in range(300):
        seeds = random.normal(0, 0.2, (3, 1))
        pooled = (seeds + random.normal(0, 0.5, (3, 60))).mean(0)
        _, low, high = mean_interval(list(pooled))
        covered += low <= 0 <= high
    assert covered < 0.7 * 300


def test_an_interval_by_hand() -> None:
    mean, low, high = crossed_interval(np.array([[1.0, 3.0], [2.0, 4.0]]))
    # means over items 2 and 3: variance 0.5 / 2; over seeds 1.5 and 3.5: variance 2 / 2; freedom 1.25^2 / (0.0625 + 1)
    assert mean == 2.5
    assert (high - mean) / math.sqrt(1.25) == pytest.approx(6.188, abs=0.01), "Student's t at 1.47 degrees of freedom"
    assert mean - low == pytest.approx(high - mean)


def test_degrees_of_freedom_follow_satterthwaite() -> None:
    table = np.array([[1.0, 3.0, 2.0, 5.0], [2.0, 4.0, 2.5, 5.5], [0.0, 3.5, 1.0, 6.0]])
    of_seeds = stats.sem(table.mean(1)) ** 2
    of_items = stats.sem(table.mean(0)) ** 2
    freedom = (of_seeds + of_items) ** 2 / (of_seeds**2 / 2 + of_items**2 / 3)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(of_seeds + of_items)
    assert crossed_interval(table) == pytest.approx((table.mean(), table.mean() - half, table.mean() + half))


def test_one_seed_has_no_interval() -> None:
    assert crossed_interval(np.ones((1, 5))) == (1.0, -math.inf, math.inf)
    assert crossed_interval(np.ones((3, 5))) == (1.0, 1.0, 1.0)
