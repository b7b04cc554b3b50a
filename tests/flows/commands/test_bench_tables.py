"""Figures of `imbik bench` as they are printed."""

from __future__ import annotations

from typing import Any

import pytest

from flows.commands import bench_tables
from tasks.latency.result import Ratio


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.456, "0.46"), (9.99, "9.99"), (10, "10.0"), (99.94, "99.9"), (100, "100"), (1234.6, "1,235")],
)
def test_a_figure_has_three_digits_that_count(value: float, shown: str) -> None:
    assert bench_tables._short(value) == shown


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({}, "1.25 (1.10 to 1.40)"),
        ({"low": 0.9, "differs": False}, "1.25 (0.90 to 1.40) ="),
        ({"low": None}, "1.25 (once)"),
        ({"high": None}, "1.25 (once)"),
    ],
)
def test_a_ratio_that_is_not_shown_has_a_mark(changed: dict[str, Any], shown: str) -> None:
    made: dict[str, Any] = {
        "server": "b",
        "against": "a",
        "isl": 1,
        "osl": 2,
        "concurrency": 3,
        "figure": "ttft_ms.p50",
    }
    made |= {"ratio": 1.25, "low": 1.1, "high": 1.4, "differs": True} | changed
    assert bench_tables._ratio(Ratio(**made)) == shown
    assert bench_tables._ratio(None) == "-"
