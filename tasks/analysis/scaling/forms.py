"""Forms of a scaling law, each fitted to a ladder: the law of Hoffmann et al. (2022) in size and tokens, and simpler
rivals. Which of them to believe is the back-test's to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from tasks.analysis.scaling.ladder import CLOSE, Array, Ladder, distinct

HUBER = 1e-3
"""Error of the log loss beyond which a point counts linearly, as in Hoffmann et al."""
EXPONENTS = np.geomspace(0.03, 3.0, 16)
STARTS = 5
BOUNDS = (-40.0, 40.0)
MOST_EXPONENT = 6.0
POINTS_OF_LAW = 8
"""Of the law's five parameters."""


class Fit(Protocol):
    """A fitted form."""

    @property
    def parameters(self) -> dict[str, float]:
        """Values by name, in the units of the data."""

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        """Predicted losses, nats per token; nan where the form says nothing."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """floor + E + A / N^alpha + B / D^beta; A and B are kept as logarithms at the ladder's geometric means."""

    floor: float
    values: tuple[float, float, float, float, float]
    """log A, alpha, log B, beta, E; A and B at `center`."""
    center: tuple[float, float]
    """Logarithms of the parameters and tokens at which A and B are taken."""

    @property
    def parameters(self) -> dict[str, float]:
        """E holds the floor."""
        a, alpha, b, beta, e = self.values
        return {
            "E": self.floor + e,
            "A": float(np.exp(a + alpha * self.center[0])),
            "alpha": alpha,
            "B": float(np.exp(b + beta * self.center[1])),
            "beta": beta,
        }

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        """See Fit."""
        a, alpha, b, beta, e = self.values
        x, y = np.log(params) - self.center[0], np.log(tokens) - self.center[1]
        return np.asarray(self.floor + e + np.exp(a - alpha * x) + np.exp(b - beta * y))


def fit_law(ladder: Ladder, *, fixed: bool = False, near: Law | None = None) -> Law | str:
    """The law by the sum of Huber losses of log loss from many starts, or from `near` alone; with `fixed`, E is the
    floor. Or why the points cannot determine it."""
    from scipy.optimize import minimize  # type: ignore[import-untyped]  # takes a second to import

    sizes, lengths = distinct(ladder.params), distinct(ladder.tokens)
    if len(ladder) < POINTS_OF_LAW or sizes < 3 or lengths < 3:
        return f"{len(ladder)} points of {sizes} sizes and {lengths} lengths; needs {POINTS_OF_LAW} of 3 and 3"
    n, d = np.log(ladder.params), np.log(ladder.tokens)
    center = near.center if near else (float(n.mean()), float(d.mean()))
    objective = _objective(ladder, n - center[0], d - center[1], fixed)
    starts = [_packed(near.values)] if near else _starts(ladder, n - center[0], d - center[1], fixed)
    tiny = (BOUNDS[0], BOUNDS[0]) if fixed else BOUNDS
    bounds = [BOUNDS, (1e-3, MOST_EXPONENT), BOUNDS, (1e-3, MOST_EXPONENT), tiny]
    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9}
    tried = [minimize(objective, s, jac=True, method="L-BFGS-B", bounds=bounds, options=options) for s in starts]
    a, alpha, b, beta, e = map(float, min(tried, key=lambda one: float(one.fun)).x)
    return Law(floor=ladder.floor, values=(a, alpha, b, beta, 0.0 if fixed else float(np.exp(e))), center=center)


def _packed(values: tuple[float, float, float, float, float]) -> Array:
    return np.array([*values[:4], max(np.log(max(values[4], 1e-300)), BOUNDS[0])])


def _objective(ladder: Ladder, x: Array, y: Array, fixed: bool) -> Callable[[Array], tuple[float, Array]]:
    """Sum of Huber losses and its gradient, by log A, alpha, log B, beta, log E."""
    observed = np.log(ladder.loss)

    def value(p: Array) -> tuple[float, Array]:
        size, length = np.exp(p[0] - p[1] * x), np.exp(p[2] - p[3] * y)
        least = 0.0 if fixed else float(np.exp(p[4]))
        predicted = ladder.floor + least + size + length
        error = np.log(predicted) - observed
        within = np.abs(error) <= HUBER
        total = np.where(within, error**2 / 2, HUBER * (np.abs(error) - HUBER / 2)).sum()
        slope = np.where(within, error, HUBER * np.sign(error)) / predicted
        parts = (slope * size, -slope * size * x, slope * length, -slope * length * y, slope * least)
        # Scaled: the tolerances of L-BFGS are absolute, and a good fit's sum is far below 1.
        return float(total) / HUBER**2, np.array([part.sum() for part in parts]) / HUBER**2

    return value


def _starts(ladder: Ladder, x: Array, y: Array, fixed: bool) -> list[Array]:
    """For each pair of exponents the best non-negative A, B and E by least squares; the best of these."""
    from scipy.optimize import nnls

    above, found = ladder.loss - ladder.floor, []
    for alpha in EXPONENTS:
        for beta in EXPONENTS:
            columns = [np.exp(-alpha * x), np.exp(-beta * y)] + ([] if fixed else [np.ones(len(x))])
            solved, error = nnls(np.stack(columns, 1), above)
            a, b, *e = np.log(np.maximum(solved, 1e-12))
            found.append((float(error), np.array([a, alpha, b, beta, *(e or [BOUNDS[0]])])))
    return [start for _, start in sorted(found, key=lambda one: one[0])[:STARTS]]


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """floor + C / (N^a D^b): a straight plane in logarithms."""

    floor: float
    constant: float
    """log C."""
    a: float
    b: float

    @property
    def parameters(self) -> dict[str, float]:
        """See Fit."""
        return {"C": float(np.exp(self.constant)), "a": self.a, "b": self.b}

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        """See Fit."""
        return np.asarray(self.floor + np.exp(self.constant - self.a * np.log(params) - self.b * np.log(tokens)))


def fit_power_law(ladder: Ladder, near: PowerLaw | None = None) -> PowerLaw | str:
    """By least squares of the log loss above the floor; or why not."""
    sizes, lengths = distinct(ladder.params), distinct(ladder.tokens)
    if len(ladder) < 4 or sizes < 2 or lengths < 2:
        return f"{len(ladder)} points of {sizes} sizes and {lengths} lengths; needs 4 of 2 and 2"
    columns = np.stack([np.ones(len(ladder)), -np.log(ladder.params), -np.log(ladder.tokens)], 1)
    constant, a, b = map(float, np.linalg.lstsq(columns, np.log(ladder.loss - ladder.floor), rcond=None)[0])
    if a <= 0 or b <= 0:
        return f"the loss does not fall with {'the size' if a <= 0 else 'the tokens'}"
    return PowerLaw(floor=ladder.floor, constant=constant, a=a, b=b)


@dataclass(frozen=True, kw_only=True)
class SizeLaw:
    """floor + C / N^a at one number of tokens; it says nothing of others."""

    floor: float
    constant: float
    a: float
    tokens: float

    @property
    def parameters(self) -> dict[str, float]:
        """See Fit."""
        return {"C": float(np.exp(self.constant)), "a": self.a}

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        """See Fit."""
        ratio = np.asarray(tokens, dtype=np.float64) / self.tokens
        predicted = self.floor + np.exp(self.constant - self.a * np.log(params))
        return np.where((ratio <= CLOSE) & (ratio * CLOSE >= 1), predicted, np.nan)


def fit_size_law(ladder: Ladder, near: SizeLaw | None = None) -> SizeLaw | str:
    """Fitted to the points of the longest training; or why not."""
    longest = ladder.take(ladder.longest)
    sizes = distinct(longest.params)
    if sizes < 3:
        return f"{sizes} sizes at the longest training; needs 3"
    columns = np.stack([np.ones(len(longest)), -np.log(longest.params)], 1)
    constant, a = map(float, np.linalg.lstsq(columns, np.log(longest.loss - longest.floor), rcond=None)[0])
    if a <= 0:
        return "the loss does not fall with the size"
    return SizeLaw(floor=ladder.floor, constant=constant, a=a, tokens=float(ladder.tokens.max()))


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form: its name, its formula, how it is fitted to a ladder, and whether it speaks of all tokens."""

    name: str
    formula: str
    fit: Callable[..., Fit | str]
    general: bool = True


def forms(floor: float) -> tuple[Form, ...]:
    """The forms that compete; with a floor, its law also with E at the floor."""
    add = "floor + " if floor else ""
    law = Form(
        name="law", formula="E + A/N^alpha + B/D^beta" + (", E not below the floor" if floor else ""), fit=fit_law
    )
    at_floor = Form(
        name="law at the floor",
        formula="floor + A/N^alpha + B/D^beta",
        fit=lambda ladder, near=None: fit_law(ladder, fixed=True, near=near),
    )
    return (
        law,
        *([at_floor] if floor else []),
        Form(name="power law", formula=f"{add}C/(N^a D^b)", fit=fit_power_law),
        Form(name="power law in size", formula=f"{add}C/N^a at the longest D", fit=fit_size_law, general=False),
    )
