"""Wilson's interval against scipy's."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from jobs.evaluation.intervals import wilson


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (1, 3), (7, 10), (0, 25), (25, 25), (613, 1000)])
def test_wilson_is_scipys(right: int, n: int) -> None:
    interval = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx([interval.low, interval.high], abs=1e-6)


def test_ends_are_exact() -> None:
    assert (wilson(0, 7)[0], wilson(7, 7)[1]) == (0.0, 1.0)
