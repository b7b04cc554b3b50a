"""The figure of a scaling law: which sizes are drawn, and how far their curves go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.report.plots import scaling


@pytest.mark.parametrize(
    ("number", "drawn"), [(1, [0]), (3, [0, 1, 2]), (6, [0, 1, 2, 3, 4, 5]), (11, [0, 2, 4, 6, 8, 10])]
)
def test_at_most_six_sizes_from_the_first_to_the_last(number: int, drawn: list[float]) -> None:
    assert scaling._some(np.repeat(np.arange(float(number)), 2)[::-1]) == drawn


class Axes:
    """Keeps the ends of each line."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, float, str, str | None]] = []

    def plot(self, along: Any, loss: Any, *, linestyle: str, label: str | None = None, **style: Any) -> None:
        assert len(along) == len(loss)
        self.lines.append((round(along[0], 6), round(along[-1], 6), linestyle, label))


def oracle(tokens: float, compute: float, size: float = 90.0) -> Any:
    ladder = SimpleNamespace(params=np.array([10.0, 10, 20]), tokens=np.array([100.0, 400, 200]))
    limits = {"tokens": tokens, "compute": compute, "size": size}
    fit = SimpleNamespace(loss=lambda params, tokens: np.asarray(params) / np.asarray(tokens))
    return SimpleNamespace(ladder=ladder, choice=SimpleNamespace(limits=limits), fit=fit)


@pytest.mark.parametrize(
    ("size", "tokens", "compute", "measured", "end"),
    [
        (10.0, 1000.0, 1e9, 400.0, 1000.0),
        (10.0, 1000.0, 6 * 10 * 700.0, 400.0, 700.0),
        (20.0, 1000.0, 6 * 20 * 500.0, 200.0, 500.0),
        (10.0, 300.0, 1e9, 400.0, 400.0),
    ],
)
def test_a_curve_is_dashed_from_its_points_to_what_is_supported(
    size: float, tokens: float, compute: float, measured: float, end: float
) -> None:
    axes = Axes()
    scaling._curve(axes, oracle(tokens, compute), size, "red", lambda value: f"{value:g} parameters")
    label = f"{size:g} parameters"
    assert axes.lines == [(100.0, measured, "-", label), (measured, end, "--", None)]


def test_by_size_it_is_dashed_beyond_the_largest() -> None:
    axes = Axes()
    scaling._by_size(axes, oracle(50.0, 1e9))
    assert axes.lines == [(10.0, 20.0, "-", None), (20.0, 90.0, "--", None)]
