"""Extrapolates a learning curve to more tokens: fits L(t) = E + A x t^-alpha with an interval, or says why it cannot.

The law is that of Hoffmann et al. (2022) in tokens alone. The caller chooses the curve and reports the result."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.analysis.statistics import student_t

Array = NDArray[np.float64]

LEAST_POINTS = 6
"""Twice the number of fitted parameters; a fit to fewer points would follow their noise."""
ALPHAS = np.geomspace(0.03, 5.0, 1200)
MAX_AUTOCORRELATION = 0.9
"""Upper limit on the estimated autocorrelation of the residuals, which keeps the variance factor finite (19)."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """A fitted curve; t is tokens divided by those of the last point. Losses in nats per token."""

    floor: float
    scale: float
    alpha: float
    tokens: Array
    losses: Array

    def at(self, tokens: float) -> tuple[float, float, float]:
        """The loss at `tokens`, and its 95% interval."""
        x = tokens / self.tokens[-1]
        low, high = self._interval(1.0, x**-ALPHAS)
        return float(self.floor + self.scale * x**-self.alpha), max(low, 0.0), high

    def gain(self, tokens: float, more: float) -> tuple[float, float, float]:
        """The drop of the loss from `tokens` to `more` tokens, and its 95% interval."""
        start, end = tokens / self.tokens[-1], more / self.tokens[-1]
        low, high = self._interval(0.0, start**-ALPHAS - end**-ALPHAS)
        return float(self.scale * (start**-self.alpha - end**-self.alpha)), max(low, 0.0), high

    def _interval(self, of_floor: float, of_scale: Array) -> tuple[float, float]:
        """95% interval of of_floor x E + of_scale(alpha) x A by profile likelihood: its range over all laws that fit
        nearly as well.

        A bootstrap of the residuals covered the truth in only 69% to 91% of cases with as few points as a curve
        has."""
        n = len(self.losses)
        lines = _Lines(self.tokens / self.tokens[-1], self.losses)
        limit = lines.errors.min() * (1 + student_t(0.975, n - 3) ** 2 / (n - 3) * self._variance_factor())
        slack = np.maximum(limit - lines.errors, 0.0)
        value = of_floor * lines.floors + of_scale * lines.scales
        reach = np.sqrt(slack * (of_floor**2 / n + (of_scale - of_floor * lines.mean) ** 2 / lines.spread))
        fitting = lines.errors <= limit
        return float((value - reach)[fitting].min()), float((value + reach)[fitting].max())

    def _variance_factor(self) -> float:
        """Factor by which autocorrelated residuals (an AR(1) process) increase the variance; 1 without
        autocorrelation."""
        residuals = self.losses - self.floor - self.scale * (self.tokens / self.tokens[-1]) ** -self.alpha
        power = float(residuals @ residuals)
        rho = min(max(float(residuals[1:] @ residuals[:-1]) / power, 0.0), MAX_AUTOCORRELATION) if power else 0.0
        return (1 + rho) / (1 - rho)


class _Lines:
    """For each alpha, the least-squares line E + A x in x = t^-alpha: arrays over ALPHAS."""

    def __init__(self, t: Array, y: Array) -> None:
        x: Array = t[:, None] ** -ALPHAS
        self.mean: Array = x.mean(0)
        self.spread: Array = ((x - self.mean) ** 2).sum(0)
        self.scales: Array = ((x - self.mean) * (y - y.mean())[:, None]).sum(0) / self.spread
        self.floors: Array = y.mean() - self.scales * self.mean
        errors: Array = ((y[:, None] - self.floors - self.scales * x) ** 2).sum(0)
        self.errors: Array = np.where(self.floors >= 0, errors, np.inf)  # a loss floor cannot be negative


def fit(tokens: list[float], losses: list[float]) -> Law | str:
    """The law fitted to the points (tokens above 0, increasing), or why they do not determine it."""
    if len(tokens) < LEAST_POINTS:
        return f"{len(tokens)} validations after warm-up are too few; at least {LEAST_POINTS} are needed"
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
    drop = max(float(y[: len(y) // 2].mean() - y[len(y) // 2 :].mean()), 0.0)
    if not math.isfinite(high) or high - low > drop:
        return (
            f"the curve does not determine it: twice the tokens would gain {gain:.2g} nats (95% {low:.2g} to"
            f" {high:.2g}), an interval wider than the {drop:.2g} nats between the curve's two halves"
        )
    return law
