"""The back-test: it never shows a form the points that it predicts, and chooses by what they say."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.analysis.scaling.backtest import Axis, Choice, Trial, choose, choose_in_size, trials
from tasks.analysis.scaling.forms import Form, forms
from tasks.analysis.scaling.ladder import Array, Ladder, ladder
from tests.fixtures.ladders import LENGTHS, SIZES, chinchilla, rows, short


def judged(points: Ladder, tolerance: float = 0.02) -> tuple[list[Trial], Choice | None, Choice | None]:
    """The trials, the general choice and the choice in size."""
    competing = forms(points.floor)
    tried = trials(points, competing)
    general = choose(points, competing, tried, tolerance)
    return tried, general, choose_in_size(points, competing, tried, tolerance, general)


def test_points_of_the_law_choose_the_law() -> None:
    tried, general, in_size = judged(chinchilla(noise=0.003))
    assert general is not None and general.form.name == "law"
    assert general.error < 0.01
    assert in_size is not None
    assert {trial.axis for trial in tried} == {"compute", "size", "tokens"}
    assert general.limits["compute"] > 6 * SIZES[-1] * LENGTHS[-1]
    assert general.limits["size"] > SIZES[-1] and general.limits["tokens"] > LENGTHS[-1]


def test_on_a_short_ladder_only_the_law_in_size_is_used() -> None:
    """13 tiny models: the law was 8% off, the power law in size 0.4%."""
    tried, general, in_size = judged(short())
    nearest = next(trial for trial in tried if trial.axis == "size")
    assert nearest.fitted == 12 and nearest.predicted == 1
    assert nearest.error("law") == pytest.approx(0.0775, abs=0.005)
    assert nearest.error("power law") == pytest.approx(0.03, abs=0.003)
    assert nearest.error("power law in size") == pytest.approx(0.004, abs=0.001)
    assert general is None
    assert in_size is not None and in_size.form.name == "power law in size"
    assert in_size.limits["size"] == pytest.approx(1_336_192 * 1_336_192 / 557_088)
    assert in_size.limits["tokens"] == 231_424


def test_a_larger_tolerance_lets_the_power_law_pass() -> None:
    _, general, _ = judged(short(), tolerance=0.04)
    assert general is not None and general.form.name == "power law"


@pytest.mark.slow
def test_no_form_is_used_where_losses_are_noise() -> None:
    random = np.random.default_rng(1)
    points = [(name, n, d, 3.0 * float(np.exp(random.normal(0, 0.05)))) for name, n, d, _ in rows()]
    assert judged(ladder(points))[1:] == (None, None)


def trial(axis: Axis, reach: float, error: float, naive: float = 0.5) -> Trial:
    """A split at which the form `one` was off by `error`."""
    errors: dict[str, Array | str] = {"one": np.array([error, -error])}
    return Trial(axis=axis, fitted=5, predicted=2, reach=reach, naive=naive, errors=errors)


ONE = (Form(name="one", formula="3", fit=lambda ladder, near=None: "not fitted here"),)


def test_a_range_ends_at_the_first_split_that_failed() -> None:
    """A farther split that a form passed by luck does not count."""
    points = chinchilla()
    tried = [trial("compute", 2, 0.01), trial("compute", 8, 0.05), trial("compute", 30, 0.01), trial("size", 3, 0.015)]
    choice = choose(points, ONE, tried, 0.02)
    assert choice is not None
    assert choice.limits["compute"] == pytest.approx(2 * points.compute.max())
    assert choice.limits["size"] == pytest.approx(3 * points.params.max())
    assert choice.limits["tokens"] == pytest.approx(points.tokens.max())
    assert choice.spread == pytest.approx(np.sqrt((0.01**2 + 0.015**2) / 2))
    assert choose(points, ONE, [trial("compute", 2, 0.03), trial("compute", 8, 0.01)], 0.02) is None


def test_a_form_has_to_beat_the_nearest_point() -> None:
    assert trial("size", 2, 0.01, naive=0.011).passed("one", 0.02)
    assert not trial("size", 2, 0.01, naive=0.009).passed("one", 0.02)


class Spy:
    """A form that remembers what it was fitted to, and says 3 of everything."""

    def __init__(self) -> None:
        self.seen: list[Ladder] = []
        self.parameters: dict[str, float] = {}

    def fit(self, points: Ladder, near: object = None) -> Spy:
        """Remembers the points."""
        self.seen.append(points)
        return self

    def loss(self, params: Array, tokens: Array) -> Array:
        """3 nats."""
        return np.full(np.shape(params), 3.0)


def test_a_form_never_sees_what_it_predicts() -> None:
    points, spy = chinchilla(), Spy()
    tried = trials(points, (Form(name="spy", formula="3", fit=spy.fit),))
    assert len(tried) == len(spy.seen) >= 9
    values = {"compute": lambda one: one.compute, "size": lambda one: one.params, "tokens": lambda one: one.tokens}
    for trial, seen in zip(tried, spy.seen, strict=True):
        along = values[trial.axis]
        largest = np.sort(along(points))[-trial.predicted :]
        assert along(seen).max() < largest.min()
        assert len(seen) == trial.fitted and trial.predicted >= 6
        assert trial.reach == pytest.approx(np.exp(np.log(largest).mean()) / along(seen).max())
    assert tried[0].fitted + tried[0].predicted == len(points)


def test_knowing_nothing_is_the_loss_of_the_nearest_point() -> None:
    """Of the fitted points, in logarithms of size and tokens; the splits leave the largest out."""
    points = [(1e6, 1e8, 4.0), (1e6, 8e8, 3.5), (4e6, 1e8, 3.2), (4e6, 4e8, 3.0), (2e6, 9e8, 2.9), (5e6, 8e8, 2.5)]
    made = ladder([("point", *one) for one in points])
    first = trials(made, (Form(name="spy", formula="3", fit=Spy().fit),))[0]
    assert (first.axis, first.fitted, first.predicted) == ("compute", 5, 1)
    assert first.naive == pytest.approx(np.log(3.0 / 2.5)), "4e6 on 4e8 is 2 times nearer than 2e6 on 9e8"
    assert first.reach == pytest.approx(5 * 8 / (2 * 9))
