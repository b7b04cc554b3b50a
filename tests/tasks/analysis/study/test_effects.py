"""What each key does: found where it is there, not shown where it is not, nothing said of too few trials."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conf.study import Point, Range
from tasks.analysis.study.effects import effects, usual

SPACE = {
    "distill.lr": Range(low=1e-4, high=1e-2, log=True),
    "distill.loss": ("forward_kl", "reverse_kl", "jensen_shannon"),
    "distill.seed": Range(low=1, high=100),
}


def trials(count: int, noise: float) -> tuple[list[Point], list[float]]:
    """Losses that are lowest at a rate of 1e-3 and 0.3 higher with reverse KL; the seed does nothing."""
    random = np.random.default_rng(4)
    points: list[Point] = [
        {
            "distill.lr": float(10 ** random.uniform(-4, -2)),
            "distill.loss": SPACE["distill.loss"][random.integers(3)],  # type: ignore[index]
            "distill.seed": int(random.integers(1, 101)),
        }
        for _ in range(count)
    ]
    losses = [
        2 + 0.5 * math.log10(point["distill.lr"] / 1e-3) ** 2 + 0.3 * (point["distill.loss"] == "reverse_kl")
        for point in points
    ]
    return points, [loss + float(random.normal(0, noise)) for loss in losses]


@pytest.mark.parametrize("lower", [True, False])
def test_effects_are_found_with_their_size(lower: bool) -> None:
    points, losses = trials(40, 0.02)
    found = effects(SPACE, points, losses if lower else [-loss for loss in losses], lower=lower)
    assert found is not None
    by_key = {each.key: each for each in found}
    sign = -1 if lower else 1
    rate, loss, seed = (by_key[key] for key in SPACE)
    assert rate.effect * sign == pytest.approx(0.5, abs=0.08)
    assert float(rate.best) == pytest.approx(1e-3, rel=0.5)
    assert loss.worst == "reverse_kl" and loss.effect * sign == pytest.approx(0.3, abs=0.05)
    assert seed.low < 0 < seed.high
    for each in (rate, loss):
        assert each.low <= each.effect <= each.high and (each.low > 0) == (each.high > 0)


def test_too_few_trials_say_nothing() -> None:
    points, losses = trials(6, 0.0)
    assert effects(SPACE, points, losses, lower=True) is None
    assert effects(SPACE, [], [], lower=True) is None


def test_a_key_with_one_tried_value_has_no_effect() -> None:
    points, losses = trials(20, 0.01)
    same = [point | {"distill.loss": "forward_kl"} for point in points]
    found = effects(SPACE, same, losses, lower=True)
    assert found is not None and {each.key for each in found} == {"distill.lr", "distill.seed"}


def test_trials_that_went_wrong_do_not_decide_the_fit() -> None:
    losses = [2.0, 2.1, 2.2, 2.15, 9.0]
    assert usual(losses, lower=True) == [0, 1, 2, 3]
    assert usual([-loss for loss in losses], lower=False) == [0, 1, 2, 3]
    assert usual([2.0, 2.0, 2.0, 2.0, 2.0, 9.0], lower=True) == list(range(6)), "without a spread, nothing is far"


@pytest.mark.parametrize(("count", "effect"), [(6, -1.0), (5, 0.0), (4, None)])
def test_a_parabola_needs_three_trials_to_spare_and_a_line_too(count: int, effect: float | None) -> None:
    """Without them a range is taken for a line, which sees nothing of what is lowest in the middle."""
    places = {6: (0, 2, 4, 6, 8, 10), 5: (0, 2, 5, 8, 10), 4: (0, 3, 7, 10)}[count]
    losses = [2 + ((place - 5) / 5) ** 2 for place in places]
    found = effects({"steps": Range(low=0, high=10)}, [{"steps": place} for place in places], losses, lower=True)
    if effect is None:
        assert found is None
    else:
        assert found is not None
        assert found[0].effect == pytest.approx(effect if count == 5 else (1 / 5) ** 2 - 1, abs=1e-9)


@pytest.mark.parametrize("values", [("a", "b"), Range(low=0, high=1)])
def test_two_values_of_a_key_have_an_effect(values: Range | tuple[str, ...]) -> None:
    """Without noise the step between their means, with no interval; what was never tried is no value."""
    tried = [0, 1, 1, 0, 1, 0] if isinstance(values, Range) else ["a", "b", "b", "a", "b", "a"]
    losses = [3.0 if value in (0, "a") else 2.5 for value in tried]
    found = effects({"one": values}, [{"one": value} for value in tried], losses, lower=True)
    assert found is not None and len(found) == 1
    assert (found[0].effect, found[0].low, found[0].high) == pytest.approx((-0.5, -0.5, -0.5))
    assert (found[0].worst, found[0].best) == (str(tried[0]), str(tried[1]))


@pytest.mark.parametrize("alone", [0, 11])
def test_every_trial_is_drawn_again(alone: int) -> None:
    """One trial alone has a value: 63% of the resamples hold it and determine the fit; none would if it were never
    drawn, and nothing would be said."""
    points: list[Point] = [{"loss": "b" if number == alone else "a"} for number in range(12)]
    found = effects({"loss": ("a", "b")}, points, [2.0 + 0.01 * (number % 3) for number in range(12)], lower=True)
    assert found is not None
