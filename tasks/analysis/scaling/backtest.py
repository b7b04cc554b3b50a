"""The back-test: each form is fitted to the smaller part of a ladder and predicts its largest points. It decides which
form is believed, and how far beyond the ladder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.analysis.scaling.forms import Form
from tasks.analysis.scaling.ladder import CLOSE, Array, Ladder, Mask

Axis = Literal["compute", "size", "tokens"]
AXES: tuple[Axis, ...] = ("compute", "size", "tokens")
SHARES = (1.0, 0.8, 0.6, 0.3)
"""Shares of the points, the cheapest first, to which forms are fitted; 1: all that are not predicted."""
HELD_OUT = 0.1
"""Share of the points that are predicted: the largest."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One split of a ladder and the forms' errors at the points left out (log predicted - log measured), by form name;
    or why a form could not be fitted."""

    axis: Axis
    fitted: int
    predicted: int
    reach: float
    """Geometric mean of the predicted points' values on the axis, in units of the largest fitted one."""
    naive: float
    """Mean absolute error of expecting the loss of the nearest fitted point."""
    errors: dict[str, Array | str]

    def error(self, form: str) -> float | None:
        """Mean absolute error of a form; None where it was not fitted."""
        found = self.errors[form]
        return None if isinstance(found, str) else float(np.abs(found).mean())

    def passed(self, form: str, tolerance: float) -> bool:
        """Whether the form's error is within the tolerance and below that of knowing nothing."""
        error = self.error(form)
        return error is not None and error <= tolerance and error < self.naive


def trials(ladder: Ladder, forms: tuple[Form, ...]) -> list[Trial]:
    """Every split of the ladder along compute, size and tokens for which some form could be fitted, nearest first."""
    found = []
    for axis in AXES:
        values = _values(ladder, axis)
        seen: set[bytes] = set()
        for share in SHARES:
            fitted, left_out = _split(values, share)
            if fitted.tobytes() not in seen and fitted.any():
                seen.add(fitted.tobytes())
                trial = _trial(ladder, forms, axis, values, fitted, left_out)
                found += [trial] if any(trial.error(form.name) is not None for form in forms) else []
    return found


def _values(ladder: Ladder, axis: Axis) -> Array:
    return {"compute": ladder.compute, "size": ladder.params, "tokens": ladder.tokens}[axis]


def _split(values: Array, share: float) -> tuple[Mask, Mask]:
    """The points fitted and those left out: the largest tenth, with all that are as large as one of them."""
    ordered = np.sort(values)
    left_out = values * CLOSE >= ordered[-max(1, round(HELD_OUT * len(values)))]
    limit = ordered[max(1, round(share * len(values))) - 1]
    return ~left_out & (values <= limit * CLOSE), left_out


def _trial(ladder: Ladder, forms: tuple[Form, ...], axis: Axis, values: Array, fitted: Mask, left_out: Mask) -> Trial:
    known, unknown = ladder.take(fitted), ladder.take(left_out)
    apart = (np.log(unknown.params)[:, None] - np.log(known.params)) ** 2
    apart += (np.log(unknown.tokens)[:, None] - np.log(known.tokens)) ** 2
    naive = np.abs(np.log(known.loss[apart.argmin(1)] / unknown.loss)).mean()
    return Trial(
        axis=axis,
        fitted=len(known),
        predicted=len(unknown),
        reach=float(np.exp(np.log(values[left_out]).mean()) / values[fitted].max()),
        naive=float(naive),
        errors={form.name: _errors(form, known, unknown) for form in forms},
    )


def _errors(form: Form, known: Ladder, unknown: Ladder) -> Array | str:
    fit = form.fit(known)
    if isinstance(fit, str):
        return fit
    errors: Array = np.log(fit.loss(unknown.params, unknown.tokens) / unknown.loss)
    told = errors[np.isfinite(errors)]
    return told if len(told) else "says nothing about these points"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The form that a kind of question is answered with, and how far: the largest compute (FLOPs of the training
    alone), size and tokens. `spread`: root mean square of its errors (log loss) where it passed."""

    form: Form
    limits: dict[Axis, float]
    spread: float
    error: float


def choose(ladder: Ladder, forms: tuple[Form, ...], tried: list[Trial], tolerance: float) -> Choice | None:
    """The general form with the smallest mean error over the splits along compute for which each that can be fitted
    was; None where it passes no split along any axis."""
    general = [form for form in forms if form.general]
    ranked = _ranked(general, [trial for trial in tried if trial.axis == "compute"])
    for form, error in ranked[:1]:
        passed = [trial for axis in AXES for trial in _passed(tried, form, axis, tolerance)]
        if any(trial.axis == "compute" for trial in passed):
            return _choice(ladder, form, passed, error)
    return None


def choose_in_size(
    ladder: Ladder, forms: tuple[Form, ...], tried: list[Trial], tolerance: float, other: Choice | None
) -> Choice | None:
    """The form for other sizes at the ladder's longest training: the law in size alone, where it predicted the largest
    sizes better than the general form's choice did there; else that one."""
    in_size = [form for form in forms if not form.general]
    by_size = [trial for trial in tried if trial.axis == "size"]
    rivals = [*in_size, *([other.form] if other else [])]
    for form, error in _ranked(rivals, by_size)[:1]:
        passed = _passed(by_size, form, "size", tolerance)
        if form in in_size and passed:
            return _choice(ladder, form, passed, error)
    return other


def _ranked(forms: list[Form], tried: list[Trial]) -> list[tuple[Form, float]]:
    """Forms with their mean errors over the splits that all of them were fitted to, best first; forms never fitted are
    left out."""
    able = [form for form in forms if any(trial.error(form.name) is not None for trial in tried)]
    errors = [[trial.error(form.name) for form in able] for trial in tried]
    common = [row for row in errors if None not in row]
    means = np.array(common, dtype=np.float64).mean(0) if common else []
    return sorted(zip(able, map(float, means), strict=False), key=lambda one: one[1])


def _passed(tried: list[Trial], form: Form, axis: Axis, tolerance: float) -> list[Trial]:
    """The splits along an axis that the form passed, from the nearest to the first that it did not."""
    found: list[Trial] = []
    for trial in sorted((one for one in tried if one.axis == axis), key=lambda one: one.reach):
        if not trial.passed(form.name, tolerance):
            break
        found.append(trial)
    return found


def _choice(ladder: Ladder, form: Form, passed: list[Trial], error: float) -> Choice:
    limits: dict[Axis, float] = {}
    for axis in AXES:
        reach = max((trial.reach for trial in passed if trial.axis == axis), default=1.0)
        limits[axis] = float(_values(ladder, axis).max()) * max(reach, 1.0)
    if not form.general:
        limits["tokens"] = float(ladder.tokens.max())
        limits["compute"] = float("inf")
    errors = np.concatenate([found for trial in passed if not isinstance(found := trial.errors[form.name], str)])
    return Choice(form=form, limits=limits, spread=float(np.sqrt((errors**2).mean())), error=error)
