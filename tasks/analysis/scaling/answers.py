"""Answers of a chosen form, with intervals, inside the range that its back-test supports; refusals beyond it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tasks.analysis.scaling.backtest import Choice
from tasks.analysis.scaling.forms import Fit
from tasks.analysis.scaling.ladder import FLOPS, Array, Ladder, Mask

DRAWS = 200
GRID = 400
SLACK = 1 + 1e-9
BEYOND = 1e3
"""How far beyond the supported range a draw may look: its value is only an end of an interval."""
STEPS = 60
"""Halvings of a range in search of a value: it is then known to a rounding error."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A value with its 95% interval; an end is inf where more than 2.5% of the draws never get there."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Best:
    """The cheapest or best training: its size, tokens, loss and FLOPs (the teacher's included)."""

    params: Answer
    tokens: float
    loss: Answer
    flops: float


class Beyond(ValueError):
    """A question beyond what the back-test supports."""


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """A chosen form fitted to the whole ladder and to resamples of it; each resample has an error of its own, drawn
    from those of the back-test."""

    ladder: Ladder
    choice: Choice
    fit: Fit
    resampled: tuple[Fit, ...]
    noise: Array
    teacher: float = 0.0
    """Parameters of the teacher whose forward pass each token costs; 0 without one."""

    def loss(self, params: float, tokens: float) -> Answer:
        """What a model of this size reaches on this many tokens, nats per token."""
        self._within(params, tokens)
        drawn = np.array([float(fit.loss(params, tokens)) for fit in self.resampled]) * np.exp(self.noise)
        return _answer(float(self.fit.loss(params, tokens)), drawn)

    def tokens(self, params: float, target: float) -> Answer:
        """Tokens until a model of this size reaches a loss."""
        low, high = self._range("tokens", params=params)
        return self._solve(target, low, high, "tokens", lambda fit, t: fit.loss(params, t), f"{params:.3g} parameters")

    def params(self, tokens: float, target: float) -> Answer:
        """The smallest model that reaches a loss on this many tokens."""
        low, high = self._range("size", tokens=tokens)
        return self._solve(target, low, high, "parameters", lambda fit, n: fit.loss(n, tokens), f"{tokens:.3g} tokens")

    def tokens_of(self, flops: float, params: float) -> float:
        """Tokens that a budget buys for a model of this size, a teacher's forward passes included."""
        return flops / (FLOPS * (params + self.teacher / 3))

    def best_for(self, flops: float) -> Best:
        """The size, and so the tokens, with the lowest loss for a budget."""
        sizes = self._sizes()
        tokens = flops / self._cost(sizes, np.ones(GRID))
        allowed = self._allowed(sizes, tokens)
        if not allowed.any():
            raise Beyond(f"{flops:.3g} FLOPs are beyond what the back-test supports: {self.range()}")
        losses = self.fit.loss(sizes, tokens)
        drawn = [float(sizes[np.argmin(fit.loss(sizes, tokens))]) for fit in self.resampled]
        best = self._inside(sizes, losses, allowed, f"the best size for {flops:.3g} FLOPs")
        size, length = float(sizes[best]), float(tokens[best])
        return Best(params=_answer(size, np.array(drawn)), tokens=length, loss=self.loss(size, length), flops=flops)

    def cheapest(self, target: float) -> Best:
        """The size and tokens that reach a loss for the fewest FLOPs."""
        sizes = self._sizes()
        tokens = self._needed(self.fit, sizes, target)
        allowed = self._allowed(sizes, tokens)
        if not allowed.any():
            most = np.minimum(self.choice.limits["tokens"], self.choice.limits["compute"] / FLOPS / sizes)
            lowest = float(self.fit.loss(sizes, most).min())
            raise Beyond(
                f"loss {target:g} is beyond what the back-test supports ({self.range()}), where it is {lowest:.4g}"
                " at the lowest"
            )
        best = self._inside(sizes, self._cost(sizes, tokens), allowed, f"the cheapest way to loss {target:g}")
        drawn = [
            sizes[np.argmin(self._cost(sizes, self._needed(fit, sizes, target * np.exp(-shift))))]
            for fit, shift in zip(self.resampled, self.noise, strict=True)
        ]
        size, length = float(sizes[best]), float(tokens[best])
        return Best(
            params=_answer(size, np.array(drawn)),
            tokens=length,
            loss=self.loss(size, length),
            flops=float(self._cost(sizes, tokens)[best]),
        )

    def range(self) -> str:
        """What the back-test supports, for people."""
        limits = self.choice.limits
        most = f", up to {limits['compute']:.3g} FLOPs" if np.isfinite(limits["compute"]) else ""
        low, high = self.ladder.tokens.min() if self.choice.form.general else limits["tokens"], limits["tokens"]
        lengths = f"{high:.3g} tokens" if low == high else f"{low:.3g} to {high:.3g} tokens"
        return f"{self.ladder.params.min():.3g} to {limits['size']:.3g} parameters, {lengths}{most}"

    def _sizes(self) -> Array:
        return np.geomspace(float(self.ladder.params.min()), self.choice.limits["size"], GRID)

    def _allowed(self, params: Array, tokens: Array) -> Mask:
        """Which of these the back-test supports; the ends count in, whatever rounding did to them."""
        limits, least = self.choice.limits, self.ladder
        return np.asarray(
            (params * SLACK >= least.params.min())
            & (params <= limits["size"] * SLACK)
            & (tokens * SLACK >= least.tokens.min())
            & (tokens <= limits["tokens"] * SLACK)
            & (FLOPS * params * tokens <= limits["compute"] * SLACK)
        )

    def _within(self, params: float, tokens: float) -> None:
        inside = self._allowed(np.array([params]), np.array([tokens]))
        if not inside.all() or not np.isfinite(self.fit.loss(params, tokens)):
            raise Beyond(
                f"{params:.3g} parameters on {tokens:.3g} tokens is beyond what the back-test supports: {self.range()}"
            )

    def _range(self, axis: str, *, params: float = 0.0, tokens: float = 0.0) -> tuple[float, float]:
        """The tokens that a size, or the sizes that a number of tokens, may be asked about."""
        limits = self.choice.limits
        if axis == "tokens":
            self._within(params, float(self.ladder.tokens.min()) if self.choice.form.general else limits["tokens"])
            return float(self.ladder.tokens.min()), min(limits["tokens"], limits["compute"] / FLOPS / params)
        self._within(float(self.ladder.params.min()), tokens)
        return float(self.ladder.params.min()), min(limits["size"], limits["compute"] / FLOPS / tokens)

    def _solve(
        self, target: float, low: float, high: float, unit: str, loss: Callable[[Fit, Array], Array], given: str
    ) -> Answer:
        ends = [float(loss(self.fit, np.array(end))) for end in (low, high)]
        if not ends[1] <= target <= ends[0]:
            raise Beyond(
                f"loss {target:g} is not between the {ends[0]:.4g} at {low:.3g} and the {ends[1]:.4g} at"
                f" {high:.3g} {unit} that the back-test supports for {given}"
            )
        drawn = [
            float(_crossing(functools.partial(loss, fit), target * np.exp(-shift), low / BEYOND, high * BEYOND))
            for fit, shift in zip(self.resampled, self.noise, strict=True)
        ]
        return _answer(float(_crossing(lambda t: loss(self.fit, t), target, low, high)), np.array(drawn))

    def _needed(self, fit: Fit, params: Array, target: float) -> Array:
        """Tokens that each size needs for a loss, inf for those that never get there."""
        low = np.full(len(params), self.ladder.tokens.min() / BEYOND)
        return _crossing(lambda t: fit.loss(params, t), target, low, low * 0 + self.choice.limits["tokens"] * BEYOND)

    def _cost(self, params: Array, tokens: Array) -> Array:
        """FLOPs, the teacher's forward passes included."""
        return tokens * FLOPS * (params + self.teacher / 3)

    def _inside(self, sizes: Array, values: Array, allowed: Mask, what: str) -> int:
        """The index of the smallest value, refused where the supported range ends before it."""
        best = int(np.argmin(np.where(allowed, values, np.inf)))
        neighbours = [index for index in (best - 1, best + 1) if 0 <= index < len(sizes) and allowed[index]]
        if len(neighbours) < 2:
            raise Beyond(
                f"{what} lies beyond what the back-test supports ({self.range()}): the loss still falls at its end,"
                f" {sizes[best]:.3g} parameters"
            )
        return best


def _crossing(loss: Callable[[Array], Array], target: float, low: ArrayLike, high: ArrayLike) -> Array:
    """Where falling losses meet the target, each between its low and high, by bisection in logarithms; inf for those
    that stay above, low for those that are below from the start."""
    start, end = np.log(low), np.log(high)
    reached = loss(np.exp(end)) <= target * (1 + 1e-12)
    for _ in range(STEPS):
        middle = (start + end) / 2
        above = loss(np.exp(middle)) > target
        start, end = np.where(above, middle, start), np.where(above, end, middle)
    return np.where(reached, np.exp(end), np.inf)


def _answer(value: float, drawn: Array) -> Answer:
    low, high = np.quantile(drawn, (0.025, 0.975), method="inverted_cdf")
    return Answer(value=value, low=min(value, float(low)), high=max(value, float(high)))


def oracle(ladder: Ladder, choice: Choice, *, teacher: float = 0.0, draws: int = DRAWS, seed: int = 0) -> Oracle:
    """The chosen form fitted to the ladder, and to resamples of its points."""
    fit = choice.form.fit(ladder)
    if isinstance(fit, str):
        raise ValueError(f"the {choice.form.name} cannot be fitted to the whole ladder: {fit}")
    random = np.random.default_rng(seed)
    resampled: list[Fit] = []
    for _ in range(4 * draws):  # some resamples hold too few sizes
        again = choice.form.fit(ladder.take(random.integers(0, len(ladder), len(ladder))), near=fit)
        resampled += [] if isinstance(again, str) else [again]
        if len(resampled) == draws:
            break
    if len(resampled) < draws:
        raise ValueError(
            f"the ladder is too short to fit: only {len(resampled)} of {4 * draws} resamples of its points hold enough"
            f" sizes and lengths for the {choice.form.name}; add points"
        )
    noise = random.normal(0.0, choice.spread, draws)
    return Oracle(ladder=ladder, choice=choice, fit=fit, resampled=tuple(resampled), noise=noise, teacher=teacher)
