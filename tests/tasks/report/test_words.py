"""Differences and sizes in words."""

from __future__ import annotations

from typing import Any

import pytest

from conf.report.row import Difference
from tasks.report import words


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (0.0123, "loses 0.012 nats"),
        (-0.142, "gains 0.142 nats"),
        (0.0031, "loses 0.0031 nats"),
        (0.0, "loses nothing"),
        (-0.00001, "loses nothing (below 0.0001 nats)"),
        (0.01, "loses 0.010 nats"),
        (-0.00994, "gains 0.0099 nats"),
    ],
)
def test_a_gain_is_not_a_negative_loss(change: float, text: str) -> None:
    assert words.nats(change) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1 / 3.4, "3.4 times smaller"),
        (0.97, "as large"),
        (1.0, "as large"),
        (2.0, "2.0 times larger"),
        (1.05, "1.1 times larger"),
    ],
)
def test_sizes_are_factors(ratio: float, text: str) -> None:
    assert words.size(ratio) == text


@pytest.mark.parametrize(
    ("points", "interval", "text"),
    [
        (-0.007, (-0.02, 0.009), "no shown difference in score: -0.7 points (95% -2.0 to +0.9)"),
        (-0.19, (-0.2, -0.1), "loses score: -19.0 points (95% -20.0 to -10.0)"),
        (0.05, (0.01, 0.09), "gains score: +5.0 points (95% +1.0 to +9.0)"),
        (0.05, (0.0, 0.09), "no shown difference in score: +5.0 points (95% +0.0 to +9.0)"),
        (-0.05, (-0.09, 0.0), "no shown difference in score: -5.0 points (95% -9.0 to +0.0)"),
    ],
)
def test_a_score_difference_says_what_is_shown(points: float, interval: tuple[float, float], text: str) -> None:
    assert words.score(Difference(model="m", val_loss=0, bytes_ratio=1, mmlu=points, mmlu_ci95=interval)) == text


@pytest.mark.parametrize("measured", [{}, {"mmlu": 0.5}, {"mmlu_ci95": (0.1, 0.2)}])
def test_a_score_that_was_not_measured_is_not_told(measured: dict[str, Any]) -> None:
    assert words.score(Difference(model="m", val_loss=0, bytes_ratio=1, **measured)) == ""


@pytest.mark.parametrize(("count", "text"), [(999e6, "999.00 MB"), (1e9, "1.00 GB"), (2.5e12, "2,500.00 GB")])
def test_a_gigabyte_is_a_thousand_megabytes(count: float, text: str) -> None:
    assert words.megabytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (9.94, "9.9 s"),
        (60, "1 min 0 s"),
        (325, "5 min 25 s"),
        (3599.9, "59 min 59 s"),
        (3600, "1.0 h"),
        (5400, "1.5 h"),
        (2 * 86400 - 360, "47.9 h"),
        (2 * 86400, "2.0 days"),
        (2.5 * 86400, "2.5 days"),
    ],
)
def test_durations_have_units_of_their_size(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text
