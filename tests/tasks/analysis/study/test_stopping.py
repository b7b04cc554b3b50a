"""Which trials of a study stop on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.study import Stop, StudyConfig
from tasks.analysis.study.proposer import Sampled
from tasks.analysis.study.stopping import Stopped, Stopping, value_at


def test_the_worse_half_of_all_so_far_stops() -> None:
    rule = Stopping(Stop(at=(0.5,)), lower=True)
    assert rule.behind(0, {1: 3.0, 2: 1.0, 3: 2.0}) == set(), "fewer than least"
    assert rule.behind(0, {4: 2.5, 5: 1.5, 6: 2.0}) == {4}, "the median of 1, 1.5, 2, 2, 2.5, 3 is 2"
    assert rule.behind(0, {7: 9.0, 8: 9.0}) == {7, 8}, "a round may be worse as a whole"


def test_higher_can_be_better() -> None:
    assert Stopping(Stop(at=(0.5,), least=2), lower=False).behind(0, {1: 0.3, 2: 0.9, 3: 0.5}) == {1}


@pytest.mark.parametrize(("keep", "stopped"), [(None, {1, 4}), (0.25, {1, 3, 4}), (0.75, {1}), (0.1, {1, 3, 4})])
def test_halving_keeps_a_share_rounded_up(keep: float | None, stopped: set[int]) -> None:
    rule = Stopping(Stop(rule="halving", at=(0.5,), keep=keep), lower=True)
    assert rule.behind(0, {1: 4.0, 2: 1.0, 3: 2.0, 4: 3.0}) == stopped


def test_the_best_so_far_always_goes_on() -> None:
    rule = Stopping(Stop(rule="halving", at=(0.3, 0.6), keep=0.01, least=2), lower=True)
    assert rule.behind(0, {1: 2.0, 2: 3.0}) == {2}
    assert rule.behind(1, {1: 2.5}) == set()
    assert rule.behind(0, {3: 1.0, 4: 1.0}) == set(), "equal values go on"


def test_points_are_apart() -> None:
    rule = Stopping(Stop(at=(0.25, 0.5), least=2), lower=True)
    rule.behind(0, {1: 1.0, 2: 1.0, 3: 1.0})
    assert rule.behind(1, {1: 5.0, 2: 4.0}) == {1}


def test_the_value_after_a_step(tmp_path: Path) -> None:
    found = {0: {"val_loss": 3.0}, 2: {"train_loss": 1.0}, 4: {"val_loss": 2.0}, 8: {"val_loss": 1.0}}
    lines = [json.dumps({"step": step, "values": values}) + "\n" for step, values in found.items()]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    assert [value_at(tmp_path, step, "val_loss") for step in (4, 7, 8)] == [2.0, 2.0, 1.0]


def test_the_sampler_hears_of_stopped_trials_and_repeats_itself() -> None:
    space = {"distill.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    settings = StudyConfig.model_validate({"space": space, "objectives": [{"model": "depth"}], "stop": {}})

    def played(whole: bool) -> list[float]:
        source, rates = Sampled(settings), list[float]()
        for _ in range(4):
            asked = [float(point["distill.lr"]) for point in source.ask(4)]
            rates += asked
            source.tell([(rate,) if rate > 2e-3 or whole else Stopped(60, rate, 100) for rate in asked])
        return rates

    assert played(whole=False) == played(whole=False)
    assert played(whole=False) != played(whole=True), "whole trials rank before stopped ones"
