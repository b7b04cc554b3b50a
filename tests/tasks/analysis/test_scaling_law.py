"""The law fitted to a learning curve: right where the answer is known, silent where the curve does not say, honest in
the report."""

from __future__ import annotations

import numpy as np
import pytest

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
