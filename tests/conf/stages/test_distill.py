"""What a distillation refuses: where no teacher is loaded, what is not stored, steps that are made elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from conf.stages.distill import DistillConfig
from tests.fixtures.stages import STEPS, refused

OFFLINE: dict[str, Any] = {"offline": True, "top_k": 8, "best_by": "val_divergence"}
PAIR = {"intermediate": [{"student_layer": 1, "teacher_layer": 1}]}
FULL = "distill.best_by is val_kl, which needs the teacher's full vocabulary; choose val_divergence with offline"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"rest_bucket": True}, "rest_bucket is true but top_k is empty"),
    ({"begun": 10}, "begun is 10 but steps is 10; leave begun out"),
    ({"begun": 11}, "begun is 11 but steps is 10"),
    ({"offline": True}, "distill.offline is true but top_k is empty"),
    (OFFLINE | {"spikes": {"window": 5, "action": "rewind", "rewind_every": 5}}, "than distill.offline has stored"),
    (OFFLINE | {"rest_bucket": True, "temperature": 2}, "distill.temperature is 2 but the probability outside"),
    (OFFLINE | PAIR, "distill.intermediate needs the teacher's layer outputs, which offline does not store"),
    (OFFLINE | {"best_by": "val_kl", "keep": "best"}, FULL),
    (OFFLINE | {"best_by": "val_kl", "patience": 2}, FULL),
    (OFFLINE | {"teacher_weights": "fp8"}, "remove it, and set logits.teacher_weights=fp8 for the stage that runs"),
    ({"teacher_weights": "fp8", "steps": 0}, "distill.teacher_weights is fp8 but steps is 0"),
]
TAKEN: list[dict[str, Any]] = [
    OFFLINE,
    PAIR,
    OFFLINE | {"rest_bucket": True, "temperature": 1},
    OFFLINE | {"rest_bucket": False, "temperature": 2},
    {"rest_bucket": True, "temperature": 2, "top_k": 8},
    OFFLINE | {"keep": "best"},
    OFFLINE | {"best_by": "val_kl"},
    OFFLINE | {"spikes": {"window": 5}},
    {"spikes": {"window": 5, "action": "rewind", "rewind_every": 5}},
    {"best_by": "val_kl", "keep": "best"},
    {"best_by": "val_kl", "patience": 2},
    {"teacher_weights": "fp8"},
    {"begun": 9},
]


@pytest.mark.parametrize(("settings", "told"), REFUSED)
def test_a_distillation_that_cannot_be_is_refused(settings: dict[str, Any], told: str) -> None:
    refused(DistillConfig, STEPS | settings, told)


@pytest.mark.parametrize("settings", TAKEN)
def test_a_distillation_that_is_just_possible(settings: dict[str, Any]) -> None:
    assert DistillConfig.model_validate(STEPS | settings).steps == 10


def test_steps_that_a_trunk_has_made_are_not_its_own() -> None:
    config = DistillConfig.model_validate(STEPS | {"begun": 9})
    assert (config.own_steps, config.own_tokens) == (1, 8 * 16)
    assert config.tokens == 10 * 8 * 16, "the tokens that the student has seen"
