"""The points of a study: the same for the same seed and results, never twice, within the space."""

from __future__ import annotations

import math
from typing import Any

import pytest

from conf.study import Point, StudyConfig
from tasks.analysis.study import proposer as module
from tasks.analysis.study.proposer import Sampled, Values, mark, proposer

SPACE: dict[str, Any] = {
    "distill.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "distill.loss": ["forward_kl", "reverse_kl"],
    "distill.steps": {"low": 10, "high": 40},
    "students.depth.prune.drop_layers": [[2], [3], [2, 3]],
}


def study(**fields: Any) -> StudyConfig:
    return StudyConfig.model_validate({"space": SPACE, "objectives": [{"model": "depth"}]} | fields)


def loss(point: Point) -> Values | None:
    """A loss that is lowest at a rate of 2e-3; the trials with few steps fail."""
    if point["distill.steps"] < 13:
        return None
    return (abs(math.log(point["distill.lr"] / 2e-3)) + 0.1 * (point["distill.loss"] == "reverse_kl"),)


def played(config: StudyConfig, rounds: int) -> list[Point]:
    source, points = proposer(config), list[Point]()
    for _ in range(rounds):
        asked = source.ask(config.round)
        source.tell([loss(point) for point in asked])
        points += asked
    return points


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_same_seed_and_results_give_the_same_points(sampler: str) -> None:
    config = study(sampler=sampler)
    points = played(config, 5)
    assert played(config, 5) == points
    assert played(study(sampler=sampler, seed=2), 5) != points
    assert len({mark(point) for point in points}) == 20


@pytest.mark.slow
def test_a_gaussian_process_gives_the_same_points() -> None:
    config = study(sampler="gp", trials=8)
    assert played(config, 2) == played(config, 2)


def test_points_lie_in_the_space_with_its_kinds() -> None:
    for point in played(study(sampler="random"), 10):
        assert list(point) == list(SPACE)
        assert 1e-4 <= point["distill.lr"] <= 1e-2 and isinstance(point["distill.lr"], float)
        assert 10 <= point["distill.steps"] <= 40 and isinstance(point["distill.steps"], int)
        assert point["distill.loss"] in SPACE["distill.loss"]
        assert list(point["students.depth.prune.drop_layers"]) in SPACE["students.depth.prune.drop_layers"]


def test_results_of_earlier_rounds_move_the_choice() -> None:
    rates = [point["distill.lr"] for point in played(study(sampler="tpe", trials=40), 10)]
    far = [sum(abs(math.log(rate / 2e-3)) for rate in part) for part in (rates[:12], rates[-12:])]
    assert far[1] < far[0] / 2


def test_a_small_space_is_tried_out_and_no_more() -> None:
    small = study(sampler="tpe", space={"distill.loss": ["forward_kl", "reverse_kl"], "distill.offline": [True, False]})
    source = proposer(small)
    first = source.ask(3)
    source.tell([(1.0,), None, (2.0,)])
    second = source.ask(3)
    assert len(first) == 3 and len(second) == 1
    assert len({mark(point) for point in [*first, *second]}) == 4
    source.tell([(1.0,)])
    assert source.ask(3) == []


def test_the_order_of_settings_makes_no_other_point() -> None:
    assert mark({"a": 1, "b": 2}) == mark({"b": 2, "a": 1}) != mark({"a": 2, "b": 1})


@pytest.mark.parametrize(("listed", "found"), [(3, 3), (2, 1)])
def test_a_sampler_that_repeats_itself_is_given_the_rest(
    listed: int, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the space is small enough to list: after so many repeats in a row."""
    from optuna.samplers import PartialFixedSampler, RandomSampler

    monkeypatch.setattr(module, "IN_A_ROW", 4)
    monkeypatch.setattr(module, "SMALL", listed)
    source = proposer(study(sampler="random", space={"distill.steps": {"low": 1, "high": 3}}))
    assert isinstance(source, Sampled)
    source._study.sampler = PartialFixedSampler({"distill.steps": 2}, RandomSampler())
    points = []
    for _ in range(3):
        asked = source.ask(1)
        source.tell([(1.0,)] * len(asked))
        points += [point["distill.steps"] for point in asked]
    assert points == [2, 1, 3][:found]
    assert len(source._study.trials) == 1 + (2 * (4 + 1) if found == 3 else 2 * 4)


def test_a_grid_has_every_combination_once_in_order() -> None:
    source = proposer(
        study(sampler="grid", space={"distill.steps": {"low": 1, "high": 2}, "distill.offline": [True, False]})
    )
    points = source.ask(3) + source.ask(3)
    assert [tuple(point.values()) for point in points] == [(1, True), (1, False), (2, True), (2, False)]
    assert source.ask(1) == []


def test_two_objectives_are_sampled_too() -> None:
    config = study(objectives=[{"model": "depth"}, {"model": "depth", "by": "mmlu"}])
    source = proposer(config)
    for _ in range(4):
        points = source.ask(3)
        source.tell([(point["distill.lr"], float(point["distill.steps"])) for point in points])
    assert points


def test_a_larger_budget_goes_on_after_the_same_trials() -> None:
    def of(trials: int) -> list[Point]:
        config = study(trials=trials)
        source, points = proposer(config), list[Point]()
        while len(points) < trials:
            asked = source.ask(min(config.round, trials - len(points)))
            source.tell([loss(point) for point in asked])
            points += asked
        return points

    assert of(18)[:14] == of(14)


def test_trials_that_are_not_over_count_as_bad() -> None:
    """As Optuna draws where several run side by side, so that they do not all try the same."""
    optuna = pytest.importorskip("optuna")
    config = study(sampler="tpe", space={"distill.lr": SPACE["distill.lr"]}, trials=12)
    sampler = optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=6, constant_liar=True)
    source, theirs = proposer(config), optuna.create_study(direction="minimize", sampler=sampler)
    for _ in range(3):
        asked = [point["distill.lr"] for point in source.ask(4)]
        trials = [
            theirs.ask({"distill.lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)}) for _ in asked
        ]
        assert asked == pytest.approx([trial.params["distill.lr"] for trial in trials], rel=1e-3)
        losses = [abs(math.log(rate / 2e-3)) for rate in asked]
        source.tell([(value,) for value in losses])
        for trial, value in zip(trials, losses, strict=True):
            theirs.tell(trial, value)
