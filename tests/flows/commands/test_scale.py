"""Questions to a ladder that ask nothing or too much, and a budget in FLOPs by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import load_cluster
from conf.estimate.flops import DISTILLED, TRAINED
from flows.commands import scale

NOTHING: dict[str, float | None] = dict.fromkeys(("loss", "params", "tokens", "flops", "gpu-hours"))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"loss": 0}, "--loss is 0; it must be a finite number above 0"),
        ({"params": -1}, "--params is -1"),
        ({"tokens": float("inf")}, "--tokens is inf"),
        ({"flops": 1, "gpu-hours": 1}, "two budgets; give one"),
        ({"loss": 1, "params": 1, "tokens": 1}, "leave nothing to answer"),
        ({"tokens": 1, "flops": 1}, "a budget decides the tokens"),
        ({"tokens": 1, "gpu-hours": 1}, "a budget decides the tokens"),
        ({"tokens": 1}, "--tokens alone asks nothing"),
    ],
)
def test_a_question_without_an_answer_is_refused(given: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        scale._check(NOTHING | given, None)


@pytest.mark.parametrize(
    "given", [{}, {"loss": 1e-9}, {"tokens": 1, "params": 1}, {"tokens": 1, "loss": 2}, {"flops": 1, "params": 2}]
)
def test_a_question_with_an_answer_is_taken(given: dict[str, float]) -> None:
    scale._check(NOTHING | given, 0.0)


@pytest.mark.parametrize("floor", [-1e-9, float("inf"), float("nan")])
def test_a_floor_is_a_loss(floor: float) -> None:
    with pytest.raises(ValueError, match="--floor is"):
        scale._check(NOTHING, floor)


@pytest.mark.parametrize(("teacher", "utilisation"), [(0.0, TRAINED), (1e9, DISTILLED)])
def test_gpu_hours_are_flops_at_the_utilisation(teacher: float, utilisation: float) -> None:
    gpu = load_cluster("slurm").gpu
    assert gpu
    flops = scale._budget(None, 2.0, "slurm", teacher)
    assert flops == pytest.approx(2 * 3600 * gpu.bf16_tflops * 1e12 * utilisation)
    assert scale._budget(5e18, None, "slurm", teacher) == 5e18
    with pytest.raises(ValueError, match="names none; choose --cluster slurm"):
        scale._budget(None, 2.0, "local", teacher)


def test_the_best_error_is_of_a_general_form_nearby() -> None:
    forms: Any = tuple(SimpleNamespace(name=name, general=name != "c") for name in "abc")
    errors = {"a": 0.04, "b": 0.03, "c": 0.01}
    near, far = SimpleNamespace(error=errors.get), SimpleNamespace(error=lambda name: 0.001)
    tried: Any = [near, far]
    assert scale._best_error(tried, forms) == "the best, the b, was off by 3.0%"
    errors["b"] = None  # type: ignore[assignment]
    assert scale._best_error(tried, forms) == "the best, the a, was off by 4.0%"
    assert scale._best_error([], forms) == "none could be tested"
