"""The first steps of a distillation as a stage of their own: where they end, what they forget, what they take."""

from __future__ import annotations

from typing import Any

import pytest

from conf.shape import num_params
from conf.stages.distill import DistillConfig
from conf.stages.trunk import TrunkConfig, first_steps, stable_trunk
from tests.fixtures.stages import STEPS, STUDENT, estimate, refused

REWIND = {"spikes": {"window": 5, "action": "rewind", "rewind_every": 4}}


def distill(**settings: Any) -> DistillConfig:
    return DistillConfig.model_validate(STEPS | settings)


@pytest.mark.parametrize(("begun", "until"), [(0, 1), (2, 9)])
def test_a_trunk_ends_before_its_run(begun: int, until: int) -> None:
    assert TrunkConfig.model_validate(STEPS | {"begun": begun, "until": until}).own_steps == until - begun


@pytest.mark.parametrize(("begun", "until"), [(2, 2), (3, 2), (2, 10), (2, 11)])
def test_a_trunk_of_other_steps_is_refused(begun: int, until: int) -> None:
    told = f"until is {until}; choose one above {begun} and below steps 10"
    refused(TrunkConfig, STEPS | {"begun": begun, "until": until}, told)


def test_a_trunk_has_nothing_to_go_back_to() -> None:
    refused(TrunkConfig, STEPS | REWIND | {"until": 5}, "who goes on from a trunk cannot go back before its end")


def test_what_a_trunk_watches_was_checked_against_the_whole() -> None:
    """A window as long as the trunk, and evaluations after its end."""
    made = stable_trunk(distill(spikes={"window": 9}, evaluate_every=9, schedule="wsd"), 5)
    assert made.spikes and (made.spikes.window, made.steps, made.evaluate_every) == (9, 6, 9)


def test_a_stable_trunk_forgets_what_comes_after_it() -> None:
    ema = {"average": {"kind": "ema"}, "export": "average"}
    made = stable_trunk(distill(begun=3, schedule="wsd", **ema), 5)
    assert (made.until, made.steps, made.begun, made.export) == (5, 6, 0, "weights")
    assert (made.schedule.name, made.lr, made.min_lr) == ("constant", 1e-3, 1e-3)
    assert made.average and made.average.kind == "ema", "it begins at the first step"
    mean = {"average": {"kind": "mean", "last": 2}}
    assert stable_trunk(distill(schedule="wsd", **mean), 5).average is None, "it begins later"
    assert stable_trunk(distill(steps=20, schedule="wsd"), 5) == stable_trunk(distill(schedule="wsd"), 5)


def test_first_steps_keep_their_schedule() -> None:
    config = distill(average={"kind": "mean", "last": 2})
    made = first_steps(config, 5, 2)
    assert (made.until, made.begun, made.steps, made.schedule) == (5, 2, 10, config.schedule)
    assert made.average == config.average and first_steps(config, 5).begun == 0


def test_a_trunk_s_artifact_is_its_checkpoint() -> None:
    numbers = estimate(first_steps(distill(precision="bf16"), 9, 1))
    assert (numbers.steps, numbers.tokens) == (8, 8 * 8 * 16)
    assert numbers.disk == 12 * num_params(STUDENT)
