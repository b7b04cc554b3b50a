"""The law fitted to a learning curve: right where the answer is known, silent where the curve does not say, honest in
the report."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import least_squares, minimize

from tasks.analysis.scaling_law import LEAST_POINTS, Law, fit

LAWS = {"usual": (1.5, 0.5, 0.5), "steep": (0.1, 0.3, 1.0), "slow": (2.0, 0.2, 0.3), "without a floor": (0.0, 0.5, 0.4)}


def curve(law: tuple[float, float, float], noise: float, points: int, seed: int = 0) -> tuple[list[float], list[float]]:
    """Tokens and losses of a law with noise, from 1 to 20 in thousands of tokens."""
    floor, scale, alpha = law
    t = np.linspace(1, 20, points)
    losses = floor + scale * t**-alpha + np.random.default_rng(seed).normal(0, noise, points)
    return list(1000 * t), list(losses)


@pytest.mark.parametrize("name", LAWS)
def test_a_curve_without_noise_gives_its_law_back(name: str) -> None:
    floor, scale, alpha = LAWS[name]
    law = fit(*curve(LAWS[name], 0.0, 12))
    assert isinstance(law, Law)
    assert law.alpha == pytest.approx(alpha, rel=0.01)
    assert law.floor == pytest.approx(floor, abs=0.005)
    assert law.at(40_000)[0] == pytest.approx(floor + scale * 40**-alpha, abs=5e-4)
    assert law.gain(20_000, 40_000)[0] == pytest.approx(scale * (20**-alpha - 40**-alpha), abs=5e-4)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("noise", "points"), [(0.003, 20), (0.002, 10)])
def test_the_interval_holds_the_truth_as_often_as_it_says(name: str, noise: float, points: int) -> None:
    floor, scale, alpha = LAWS[name]
    end, gain = floor + scale * 40**-alpha, scale * (20**-alpha - 40**-alpha)
    held = []
    for seed in range(60):
        law = fit(*curve(LAWS[name], noise, points, seed))
        if isinstance(law, Law):
            held += [
                law.at(40_000)[1] <= end <= law.at(40_000)[2],
                law.gain(20_000, 40_000)[1] <= gain <= law.gain(20_000, 40_000)[2],
            ]
    assert len(held) > 60, "most of these curves say something"
    assert np.mean(held) >= 0.88


def test_where_a_curve_does_not_say_it_is_told_why() -> None:
    assert "5 validations after warm-up are too few; at least 6 are needed" in str(
        fit(*curve(LAWS["usual"], 0.0, LEAST_POINTS - 1))
    )
    rising = [float(step) for step in range(1, 11)]
    assert fit(rising, [1 + 0.1 * step for step in rising]) == "the loss does not fall along the curve"
    flat = fit(*curve((1.5, 0.001, 0.5), 0.05, 12))
    assert isinstance(flat, str)
    noisy = [fit(*curve(LAWS["slow"], 0.3, 8, seed)) for seed in range(10)]
    assert all(isinstance(law, str) for law in noisy)
    assert any("the curve does not determine it" in str(law) for law in noisy)


def brute(tokens: list[float], losses: list[float]) -> tuple[float, float, float]:
    """Floor, scale and alpha by scipy's bounded least squares, t in shares of the last tokens."""
    t, y = np.array(tokens) / tokens[-1], np.array(losses)
    best = least_squares(
        lambda p: p[0] + p[1] * t ** -p[2] - y,
        (y[-1], 0.1, 0.5),
        bounds=((0, 0, 0.03), (9, 9, 5)),
        xtol=1e-14,
        ftol=1e-14,
    )
    return tuple(best.x)


@pytest.mark.parametrize("name", LAWS)
def test_the_fit_is_scipys_least_squares(name: str) -> None:
    tokens, losses = curve(LAWS[name], 0.002, 20, seed=3)
    law = fit(tokens, losses)
    assert isinstance(law, Law)
    floor, scale, alpha = brute(tokens, losses)
    assert law.alpha == pytest.approx(alpha, rel=5e-3)
    assert (law.floor, law.scale) == pytest.approx((floor, scale), abs=2e-2)
    assert law.at(40_000)[0] == pytest.approx(floor + scale * 2**-alpha, abs=1e-4)


def profile(law: Law, tokens: list[float], losses: list[float]) -> tuple[float, float]:
    """The interval of the loss at twice the tokens, by a constrained fit on each side (profile likelihood)."""
    t, y = np.array(tokens) / tokens[-1], np.array(losses)
    residuals = y - law.floor - law.scale * t**-law.alpha
    rho = min(max(float(residuals[1:] @ residuals[:-1] / (residuals @ residuals)), 0.0), 0.9)
    n = len(y)
    limit = (residuals @ residuals) * (1 + stats.t.ppf(0.975, n - 3) ** 2 / (n - 3) * (1 + rho) / (1 - rho))

    def error(p: np.ndarray) -> float:
        return float(((p[0] + p[1] * t ** -p[2] - y) ** 2).sum())

    ends = []
    for sign in (1, -1):
        result = minimize(
            lambda p, sign=sign: sign * (p[0] + p[1] * 2 ** -p[2]),
            (law.floor, law.scale, law.alpha),
            bounds=((0, 9), (-9, 9), (0.03, 5)),
            constraints={"type": "ineq", "fun": lambda p: (limit - error(p)) / limit},
            options={"maxiter": 500, "ftol": 1e-12},
        )
        ends.append(result.fun * sign)
    return ends[0], ends[1]


@pytest.mark.parametrize("seed", [1, 4])
def test_the_interval_is_the_profile_likelihoods(seed: int) -> None:
    tokens, losses = curve(LAWS["steep"], 0.002, 20, seed)
    law = fit(tokens, losses)
    assert isinstance(law, Law)
    assert law.at(40_000)[1:] == pytest.approx(profile(law, tokens, losses), abs=3e-4)  # the grid of alphas


def test_autocorrelated_residuals_widen_the_interval() -> None:
    tokens, losses = curve(LAWS["usual"], 0.0, 20)
    wave = 0.002 * np.sin(np.arange(20) / 2.5)
    noise = np.random.default_rng(0).permutation(wave)
    smooth, rough = fit(tokens, list(losses + wave)), fit(tokens, list(losses + noise))
    assert isinstance(smooth, Law) and isinstance(rough, Law)
    assert smooth._variance_factor() > 2 > rough._variance_factor() >= 1


def test_six_points_are_enough() -> None:
    assert isinstance(fit(*curve(LAWS["steep"], 0.0, LEAST_POINTS)), Law)
    assert LEAST_POINTS == 6


def test_a_constant_curve_has_no_law() -> None:
    assert isinstance(fit([float(step) for step in range(1, 11)], [1.0] * 10), str)


def test_a_gain_is_the_difference_of_two_losses() -> None:
    law = fit(*curve(LAWS["usual"], 0.001, 20))
    assert isinstance(law, Law)
    assert law.gain(20_000, 40_000)[0] == pytest.approx(law.at(20_000)[0] - law.at(40_000)[0])
    assert law.gain(10_000, 40_000)[0] > law.gain(20_000, 40_000)[0]
    assert law.gain(20_000, 40_000)[1] >= 0 <= law.at(40_000)[1]


def test_a_wide_interval_is_held_against_the_fall_of_halves() -> None:
    found = fit([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [3.0, 2.0, 2.8, 1.9, 2.4, 2.0, 2.3])
    assert isinstance(found, str)
    assert found.endswith("an interval wider than the 0.45 nats between the curve's two halves"), "2.6 of 3, 2.15 of 4"
