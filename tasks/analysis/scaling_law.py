"""What more tokens would bring: L(t) = E + A x t^-alpha through a learning curve, with an interval, or why there is
none.

The law is that of Hoffmann et al. (2022) in tokens alone. It owns the arithmetic; which curve, and how it is told, is
decided elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.analysis.statistics import student_t

Array = NDArray[np.float64]

LEAST_POINTS = 6
"""Three numbers are fitted; fewer points than twice as many would only be drawn through."""
ALPHAS = np.geomspace(0.03, 5.0, 1200)
WEAK = 0.9
"""Neighbouring points that agree more than this say nothing of their own."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """A fitted curve, with t in shares of the tokens of its last point."""

    floor: float
    scale: float
    alpha: float
    tokens: Array
    losses: Array

    def at(self, tokens: float) -> tuple[float, float, float]:
        """The loss at so many tokens, and its 95% interval."""
        x = tokens / self.tokens[-1]
        low, high = self._interval(1.0, x**-ALPHAS)
        return float(self.floor + self.scale * x**-self.alpha), max(low, 0.0), high

    def gain(self, tokens: float, more: float) -> tuple[float, float, float]:
        """How much the loss falls from `tokens` to `more`, and its 95% interval."""
        first, then = tokens / self.tokens[-1], more / self.tokens[-1]
        low, high = self._interval(0.0, first**-ALPHAS - then**-ALPHAS)
        return float(self.scale * (first**-self.alpha - then**-self.alpha)), max(low, 0.0), high

    def _interval(self, of_floor: float, of_scale: Array) -> tuple[float, float]:
        """95% interval of of_floor x E + of_scale(alpha) x A by profile likelihood: its range over all laws that fit
        not much worse.

        A bootstrap of the residuals was tried: with as few points as a curve has, its 95% covered the truth in 69% to
        91% of cases."""
        n = len(self.losses)
        lines = _Lines(self.tokens / self.tokens[-1], self.losses)
        least = lines.errors.min()
        limit = least * (1 + student_t(0.975, n - 3) ** 2 / (n - 3) * self._alike())
        slack = np.maximum(limit - lines.errors, 0.0)
        value = of_floor * lines.floors + of_scale * lines.scales
        reach = np.sqrt(slack * (of_floor**2 / n + (of_scale - of_floor * lines.mean) ** 2 / lines.spread))
        fitting = lines.errors <= limit
        return float((value - reach)[fitting].min()), float((value + reach)[fitting].max())

    def _alike(self) -> float:
        """By how much the variance grows because neighbouring residuals err alike (an AR(1) process); 1 where they do
        not."""
        residuals = self.losses - self.floor - self.scale * (self.tokens / self.tokens[-1]) ** -self.alpha
        power = float(residuals @ residuals)
        rho = min(max(float(residuals[1:] @ residuals[:-1]) / power, 0.0), WEAK) if power else 0.0
        return (1 + rho) / (1 - rho)


class _Lines:
    """At each alpha, the straight line E + A x of least squares in x = t^-alpha."""

    def __init__(self, t: Array, y: Array) -> None:
        x: Array = t[:, None] ** -ALPHAS
        self.mean: Array = x.mean(0)
        self.spread: Array = ((x - self.mean) ** 2).sum(0)
        self.scales: Array = ((x - self.mean) * (y - y.mean())[:, None]).sum(0) / self.spread
        self.floors: Array = y.mean() - self.scales * self.mean
        errors: Array = ((y[:, None] - self.floors - self.scales * x) ** 2).sum(0)
        self.errors: Array = np.where(self.floors >= 0, errors, np.inf)  # no loss is below nothing


def fit(tokens: list[float], losses: list[float]) -> Law | str:
    """The law through the points (tokens above 0, in order), or one sentence on why they do not determine it."""
    if len(tokens) < LEAST_POINTS:
        return f"{len(tokens)} validations after the warm-up are too few; {LEAST_POINTS} are needed"
    y = np.array(losses)
    lines = _Lines(np.array(tokens) / tokens[-1], y)
    best = int(lines.errors.argmin())
    if lines.scales[best] <= 0 or not math.isfinite(lines.errors[best]):
        return "the loss does not fall along the curve"
    law = Law(
        floor=float(lines.floors[best]),
        scale=float(lines.scales[best]),
        alpha=float(ALPHAS[best]),
        tokens=np.array(tokens, dtype=np.float64),
        losses=y,
    )
    gain, low, high = law.gain(tokens[-1], 2 * tokens[-1])
    fallen = max(float(y[: len(y) // 2].mean() - y[len(y) // 2 :].mean()), 0.0)
    if not math.isfinite(high) or high - low > fallen:
        return (
            f"the curve does not determine it: twice the tokens would bring {gain:.2g} nats (95%: {low:.2g} to"
            f" {high:.2g}), a range wider than the {fallen:.2g} nats between the curve's two halves"
        )
    return law
