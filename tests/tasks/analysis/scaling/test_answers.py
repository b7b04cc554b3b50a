"""Answers are those of the law that made the points, and nothing is answered beyond what the back-test supports."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tasks.analysis.scaling.answers import Beyond, Oracle, oracle
from tasks.analysis.scaling.backtest import Choice
from tasks.analysis.scaling.forms import forms
from tasks.analysis.scaling.ladder import Ladder
from tests.fixtures.ladders import CHINCHILLA, LENGTHS, SIZES, chinchilla, law, short

ROOM = {"compute": 100 * 6 * SIZES[-1] * LENGTHS[-1], "size": 10 * SIZES[-1], "tokens": 10 * LENGTHS[-1]}


def asked(points: Ladder, form: int = 0, spread: float = 1e-9, teacher: float = 0.0, **limits: float) -> Oracle:
    """The form of this number, with wide limits."""
    choice = Choice(form=forms(points.floor)[form], limits={**ROOM, **limits}, spread=spread, error=0.01)  # type: ignore[arg-type]
    return oracle(points, choice, teacher=teacher, draws=40)


@pytest.fixture(scope="module")
def exact() -> Oracle:
    """The published law from its points without noise."""
    return asked(chinchilla())


def best_size(flops: float) -> float:
    """The closed form of Hoffmann et al.: G (C/6)^(beta / (alpha + beta))."""
    c = CHINCHILLA
    g = (c["alpha"] * c["A"] / (c["beta"] * c["B"])) ** (1 / (c["alpha"] + c["beta"]))
    return float(g * (flops / 6) ** (c["beta"] / (c["alpha"] + c["beta"])))


def test_a_loss_is_the_laws(exact: Oracle) -> None:
    assert exact.loss(7e10, 1.4e12).value == pytest.approx(law(7e10, 1.4e12), rel=1e-5)


def test_tokens_and_sizes_invert_the_loss(exact: Oracle) -> None:
    target = law(3e9, 5e10)
    assert exact.tokens(3e9, target).value == pytest.approx(5e10, rel=1e-3)
    assert exact.params(5e10, target).value == pytest.approx(3e9, rel=1e-3)


@pytest.mark.parametrize("flops", [1e20, 1e22])
def test_the_best_size_is_the_closed_forms(exact: Oracle, flops: float) -> None:
    best = exact.best_for(flops)
    assert best.params.value == pytest.approx(best_size(flops), rel=0.03)
    assert 6 * best.params.value * best.tokens == pytest.approx(flops)


def test_the_cheapest_way_spends_a_budget_best(exact: Oracle) -> None:
    best = exact.best_for(1e22)
    cheapest = exact.cheapest(best.loss.value)
    assert cheapest.flops == pytest.approx(1e22, rel=2e-3)
    assert cheapest.params.value == pytest.approx(best.params.value, rel=0.1)


def test_a_teacher_beside_costs_two_flops_a_parameter() -> None:
    alone, taught = asked(chinchilla()), asked(chinchilla(), teacher=8e9)
    assert taught.tokens_of(6e21, 1e9) == pytest.approx(6e21 / (6e9 + 2 * 8e9))
    assert taught.best_for(1e22).params.value > alone.best_for(1e22).params.value
    best = taught.best_for(1e22)
    assert best.tokens * (6 * best.params.value + 2 * 8e9) == pytest.approx(1e22)


def test_intervals_hold_the_truth_and_the_back_tests_error() -> None:
    points = chinchilla(noise=0.01, seed=3)
    narrow, wide = asked(points), asked(points, spread=0.02)
    truth = law(5e10, 1e12)
    for one in (narrow, wide):
        reached = one.loss(5e10, 1e12)
        assert reached.low <= truth <= reached.high
        assert reached.low < reached.value < reached.high
    assert wide.loss(5e10, 1e12).high - wide.loss(5e10, 1e12).low > 0.04 * truth
    needed = wide.tokens(3e9, law(3e9, 5e10))
    assert needed.low < 5e10 < needed.high


def test_the_same_points_give_the_same_interval() -> None:
    points = chinchilla(noise=0.01)
    assert asked(points, spread=0.01).loss(5e10, 1e12) == asked(points, spread=0.01).loss(5e10, 1e12)


def test_beyond_the_range_nothing_is_answered(exact: Oracle) -> None:
    with pytest.raises(
        Beyond, match=r"1e\+12 parameters on 1e\+11 tokens is beyond what the back-test supports: 6e\+07"
    ):
        exact.loss(1e12, 1e11)
    for params, tokens in ((1e7, 1e11), (1e9, 1e8), (1e9, 1e13)):
        with pytest.raises(Beyond, match="beyond what the back-test supports"):
            exact.loss(params, tokens)
    with pytest.raises(Beyond, match="is not between the"):
        exact.tokens(1e9, 1.9)
    with pytest.raises(Beyond, match=r"loss 1\.5 is beyond"):
        exact.cheapest(1.5)
    with pytest.raises(Beyond, match=r"1e\+30 FLOPs are beyond"):
        exact.best_for(1e30)


def test_the_edges_of_the_range_are_answered(exact: Oracle) -> None:
    assert exact.loss(ROOM["size"], float(LENGTHS[0])).value > 0
    assert exact.loss(float(SIZES[0]), ROOM["tokens"]).value > 0


def test_a_best_size_at_the_end_of_the_range_is_refused() -> None:
    """Larger models would be better still, but nothing supports them."""
    near = asked(chinchilla(), size=1e9, tokens=3e12)
    with pytest.raises(Beyond, match=r"the best size for 1e\+22 FLOPs lies beyond .* at its end, 1e\+09 parameters"):
        near.best_for(1e22)


def test_a_straight_form_has_no_best_size() -> None:
    with pytest.raises(Beyond, match="lies beyond what the back-test supports"):
        asked(chinchilla(), form=1).best_for(1e22)


def test_a_law_in_size_answers_at_its_tokens_only() -> None:
    points = short()
    size_law = asked(points, form=2, size=3e6, tokens=231_424.0, compute=np.inf)
    assert 2.3 < size_law.loss(2e6, 231_424.0).value < 2.6
    assert size_law.params(231_424.0, 2.6).value == pytest.approx(1e6, rel=0.2)
    with pytest.raises(Beyond, match=r"supports: 3\.96e\+04 to 3e\+06 parameters, 2\.31e\+05 tokens"):
        size_law.loss(2e6, 1e5)
    with pytest.raises(Beyond):
        size_law.tokens(2e6, 2.5)


def test_the_cheapest_sizes_interval_has_the_back_tests_error(exact: Oracle) -> None:
    """A form that predicts too little, as here by up to 5%, finds a loss with too small a model."""
    off = dataclasses.replace(exact, noise=np.linspace(0.0, 0.05, 40))
    found, needed = off.cheapest(2.2).params, exact.cheapest(2.2 * np.exp(-0.05)).params.value
    assert found.low == pytest.approx(found.value, rel=0.1) and found.high == pytest.approx(needed, rel=0.1)
    assert found.high > 1.5 * found.value


def test_the_supported_compute_bounds_sizes_and_tokens() -> None:
    bounded = asked(chinchilla(), compute=6 * 1e9 * 1e11)
    assert bounded.params(1e11, law(0.9e9, 1e11)).value == pytest.approx(0.9e9, rel=1e-3)
    assert bounded.tokens(1e9, law(1e9, 0.9e11)).value == pytest.approx(0.9e11, rel=1e-3)
    with pytest.raises(Beyond, match=r"at 1e\+09 parameters"):
        bounded.params(1e11, law(1.1e9, 1e11))
    with pytest.raises(Beyond, match=r"at 1e\+11 tokens"):
        bounded.tokens(1e9, law(1e9, 1.1e11))
