"""The space of a study: how many points it has, which are checked before, and who is better."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from conf.study import Objective, Range, Stop, StudyConfig
from conf.trials import described, nested, shown


def study(space: dict[str, Any], **settings: Any) -> StudyConfig:
    return StudyConfig.model_validate({"space": space, "objectives": [{"model": "a"}]} | settings)


@pytest.mark.parametrize(
    ("space", "points"),
    [
        ({"a": [1, 2, 3]}, 3),
        ({"a": {"low": 3, "high": 6}}, 4),
        ({"a": {"low": 3, "high": 4}, "b": [1, 2]}, 4),
        ({"a": {"low": 1, "high": 2.0}}, math.inf),
        ({"a": {"low": 1.0, "high": 2}, "b": [1, 2]}, math.inf),
    ],
)
def test_whole_numbers_are_counted_with_both_ends(space: dict[str, Any], points: float) -> None:
    assert study(space).points == points


def test_no_more_trials_than_points() -> None:
    assert study({"a": [1, 2, 3]}, trials=9).most == 3
    assert study({"a": {"low": 1, "high": 5000}}, sampler="grid").most == 1000
    assert study({"a": {"low": 1, "high": 5000}}, gpu_hours=1.0).most == 1000
    assert study({"a": {"low": 1, "high": 5000}}, gpu_hours=1.0, trials=5).most == 5


def test_the_last_key_of_a_grid_is_the_fastest() -> None:
    grid = study({"a": [1, 2], "b": {"low": 7, "high": 8}}, sampler="grid").grid()
    assert grid == [{"a": 1, "b": 7}, {"a": 1, "b": 8}, {"a": 2, "b": 7}, {"a": 2, "b": 8}]


def test_a_large_space_is_checked_value_by_value() -> None:
    space = study({"a": [1, 2, 3], "b": {"low": 0.5, "high": 1.5}})
    assert space.ends("a") == (1, 2, 3) and space.ends("b") == (0.5, 1.5)
    assert len(space.corners(6)) == 6
    few = space.corners(5)
    assert few == [{"a": value, "b": 0.5} for value in (1, 2, 3)] + [{"a": 1, "b": 0.5}, {"a": 1, "b": 1.5}]


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({"low": 1, "high": 2}, True),
        ({"low": 1, "high": 1}, False),
        ({"low": 0.1, "high": 1, "log": True}, True),
        ({"low": 0, "high": 1, "log": True}, False),
        ({"low": -1, "high": 1}, True),
    ],
)
def test_a_range_rises_and_a_log_is_above_0(settings: dict[str, Any], taken: bool) -> None:
    if taken:
        Range.model_validate(settings)
    else:
        with pytest.raises(ValidationError, match=r"is not below high|log is true"):
            Range.model_validate(settings)


def test_a_grid_has_all_its_points_or_is_refused() -> None:
    assert study({"a": [1, 2, 3]}, sampler="grid", trials=3).most == 3
    with pytest.raises(ValidationError, match="which has 3 points"):
        study({"a": [1, 2, 3]}, sampler="grid", trials=2)
    with pytest.raises(ValidationError, match="a grid has no values"):
        study({"a": {"low": 1, "high": 9, "log": True}}, sampler="grid")
    assert study({"a": {"low": 1, "high": 9, "log": True}}).points == 9


def test_the_better_of_two_is_lower_or_higher() -> None:
    loss, score = Objective(model="a"), Objective(model="a", by="mmlu")
    assert loss.better(1.0, 2.0) and not loss.better(2.0, 1.0) and not loss.better(1.0, 1.0)
    assert score.better(2.0, 1.0) and not score.better(1.0, 2.0) and not score.better(1.0, 1.0)
    assert (loss.title, score.title) == ("val_loss of a", "mmlu of a")


def test_two_objectives_have_no_fresh_seeds() -> None:
    two = [{"model": "a"}, {"model": "a", "by": "bytes"}]
    assert study({"a": [1, 2]}, objectives=two).fresh == 0
    assert study({"a": [1, 2]}, objectives=two[1:]).fresh == 0
    assert [study({"a": [1, 2]}, **seeds).fresh for seeds in ({}, {"seeds": 5}, {"seeds": 0})] == [3, 5, 0]


@pytest.mark.parametrize("at", [[0.5, 0.25], [0.25, 0.25]])
def test_points_of_a_stop_rise(at: list[float]) -> None:
    with pytest.raises(ValidationError, match="list rising shares, each once"):
        Stop.model_validate({"at": at})
    assert Stop.model_validate({"rule": "halving", "keep": 0.3, "at": sorted(set(at))}).keep == 0.3


def test_a_point_is_told_with_four_digits() -> None:
    point = {"a": 0.00123456, "b": True, "c": None, "d": "x", "e": 12345, "f": False}
    assert described(point) == "a=0.001235, b=true, c=null, d=x, e=12345, f=false"
    assert shown(1e-5) == "1e-05"
    assert nested("a.b.c", 1) == {"a": {"b": {"c": 1}}}
