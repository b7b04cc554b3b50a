"""Forms of a scaling law: the published law comes back from its own points, and points that say nothing are refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from tasks.analysis.scaling import forms
from tasks.analysis.scaling.forms import Law, PowerLaw, SizeLaw, fit_law, fit_power_law, fit_size_law
from tasks.analysis.scaling.ladder import Ladder, ladder
from tests.fixtures.ladders import CHINCHILLA, LENGTHS, SIZES, chinchilla, law, rows


def test_the_published_law_comes_back_from_its_points() -> None:
    fit = fit_law(chinchilla())
    assert isinstance(fit, Law)
    assert fit.parameters == pytest.approx(CHINCHILLA, rel=1e-4)
    assert fit.loss(7e10, 1.4e12) == pytest.approx(law(7e10, 1.4e12), rel=1e-6)


def test_the_published_law_comes_back_through_noise() -> None:
    fit = fit_law(chinchilla(noise=0.005))
    assert isinstance(fit, Law)
    assert fit.parameters["E"] == pytest.approx(CHINCHILLA["E"], abs=0.06)
    assert fit.parameters["alpha"] == pytest.approx(CHINCHILLA["alpha"], abs=0.05)
    assert fit.parameters["beta"] == pytest.approx(CHINCHILLA["beta"], abs=0.05)
    assert fit.loss(7e10, 1.4e12) == pytest.approx(law(7e10, 1.4e12), rel=0.02)


def test_a_point_far_off_hardly_moves_the_law() -> None:
    points = rows(noise=0.001)
    name, n, d, loss = points[10]
    points[10] = (name, n, d, loss * 1.5)
    fit = fit_law(ladder(points))
    assert isinstance(fit, Law)
    assert fit.parameters["E"] == pytest.approx(CHINCHILLA["E"], abs=0.02)
    assert fit.parameters["alpha"] == pytest.approx(CHINCHILLA["alpha"], abs=0.01)


def test_the_law_does_not_depend_on_the_units() -> None:
    points = chinchilla(noise=0.003)
    millions = Ladder(params=points.params / 1e6, tokens=points.tokens / 1e9, loss=points.loss)
    one, other = fit_law(points), fit_law(millions)
    assert isinstance(one, Law) and isinstance(other, Law)
    assert one.loss(1e11, 1e12) == pytest.approx(other.loss(1e5, 1e3), rel=1e-5)
    assert one.values[1] == pytest.approx(other.values[1], rel=1e-3)


def test_from_near_the_optimum_the_fit_is_the_same() -> None:
    points = chinchilla(noise=0.003)
    fit = fit_law(points)
    assert isinstance(fit, Law)
    again = fit_law(points, near=fit)
    assert isinstance(again, Law)
    assert again.values == pytest.approx(fit.values, rel=1e-5)


@pytest.mark.parametrize("floor", [0.0, 1.5])
def test_the_gradient_is_that_of_the_objective(floor: float) -> None:
    points = chinchilla(noise=0.02)
    with_floor = Ladder(params=points.params, tokens=points.tokens, loss=points.loss, floor=floor)
    x, y = np.log(points.params) - 20, np.log(points.tokens) - 23
    value = forms._objective(with_floor, x, y, fixed=False)
    at = np.array([-0.5, 0.4, -1.2, 0.3, -0.3])
    gradient = value(at)[1]
    assert check_grad(lambda p: value(p)[0], lambda p: value(p)[1], at, epsilon=1e-7) < 1e-4 * np.abs(gradient).max()


def test_with_a_floor_e_does_not_go_below() -> None:
    points = rows(noise=0.003)
    free = fit_law(ladder(points))
    bounded = fit_law(ladder(points, floor=1.9))
    fixed = fit_law(ladder(points, floor=1.9), fixed=True)
    assert isinstance(free, Law) and isinstance(bounded, Law) and isinstance(fixed, Law)
    assert free.parameters["E"] < 1.9 <= bounded.parameters["E"]
    assert fixed.parameters["E"] == 1.9


def test_a_plane_in_logarithms_comes_back() -> None:
    points = [("p", float(n), float(d), float(50 / (n**0.05 * d**0.08))) for n in SIZES for d in LENGTHS]
    fit = fit_power_law(ladder(points))
    assert isinstance(fit, PowerLaw)
    assert fit.parameters == pytest.approx({"C": 50.0, "a": 0.05, "b": 0.08})
    above = fit_power_law(ladder([(*p[:3], p[3] + 1.7) for p in points], floor=1.7))
    assert isinstance(above, PowerLaw)
    assert above.parameters == pytest.approx(fit.parameters)
    assert above.loss(1e9, 1e10) == pytest.approx(1.7 + float(fit.loss(1e9, 1e10)))


def test_a_law_in_size_speaks_of_the_longest_training() -> None:
    points = [("p", float(n), float(d), float(9 / n**0.07 + 1e9 / d)) for n in SIZES for d in LENGTHS]
    fit = fit_size_law(ladder(points))
    assert isinstance(fit, SizeLaw)
    assert fit.parameters["a"] == pytest.approx(0.07, rel=0.05)
    assert np.isfinite(fit.loss(1e11, LENGTHS[-1]))
    assert np.isnan(fit.loss(1e11, LENGTHS[0]))


def test_points_that_say_nothing_are_refused() -> None:
    some = chinchilla()
    assert "needs 8 of 3 and 3" in str(fit_law(some.take(some.params < SIZES[2])))
    assert "2 sizes at the longest training; needs 3" in str(fit_size_law(some.take(some.params < SIZES[2])))
    assert "1 lengths; needs 4 of 2 and 2" in str(fit_power_law(some.take(some.longest)))
    rising = Ladder(params=some.params, tokens=some.tokens, loss=some.loss[::-1])
    assert "does not fall with" in str(fit_power_law(rising))
    assert fit_size_law(rising) == "the loss does not fall with the size"
