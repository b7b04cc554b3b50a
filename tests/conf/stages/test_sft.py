"""Fine-tuning: what it refuses, the stage that stores logits for it, and whether the plan counts a teacher."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate.flops import forward_flops
from conf.stages.sft import SftConfig
from tests.fixtures.stages import STEPS, STUDENT, TEACHER, estimate, refused

STORED = {"offline": True, "kd_weight": 0.5, "top_k": 4}
NEEDS = "sft.offline needs kd_weight and top_k; set both or remove offline"
LOADED = "sft.best_by is val_kl, which needs the teacher loaded during training; choose val_loss"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"offline": True, "kd_weight": 0.5}, NEEDS),
    ({"offline": True, "top_k": 4}, NEEDS),
    ({"teacher_weights": "fp8"}, "sft.teacher_weights is fp8 but kd_weight is 0, so that no teacher is loaded"),
    (STORED | {"spikes": {"window": 5, "action": "rewind", "rewind_every": 5}}, "more batches than sft.offline has"),
    (STORED | {"rest_bucket": True, "temperature": 2}, "sft.temperature is 2 but the probability outside the top K is"),
    ({"phases": [{"until": 1}]}, "sft.phases is set, but records are packed into rows of one length"),
    ({"optimizer": {"qk_clip": 100}}, "sft.optimizer.qk_clip is 100, but logits are not looked at in packed records"),
    ({"parallel": {"processes": 2, "context": 2}}, "sft.parallel.context is 2 but packed records cannot be split"),
    ({"evaluate_every": 2}, "sft.evaluate_every is 2 but fine-tuning runs no evaluations during training"),
    ({"keep": "best", "best_by": "val_kl"}, LOADED),
    ({"patience": 2, "best_by": "val_kl"}, LOADED),
    (STORED | {"keep": "best", "best_by": "val_kl"}, LOADED),
]
TAKEN: list[dict[str, Any]] = [
    STORED,
    STORED | {"teacher_weights": "fp8"},
    STORED | {"rest_bucket": True},
    STORED | {"temperature": 2},
    STORED | {"spikes": {"window": 5}},
    {"kd_weight": 0.5, "top_k": 4, "rest_bucket": True, "temperature": 2},
    {"spikes": {"window": 5, "action": "rewind", "rewind_every": 5}},
    {"keep": "best", "best_by": "val_kl", "kd_weight": 0.5},
    {"keep": "best", "best_by": "val_loss"},
    {"keep": "last", "best_by": "val_kl"},
]


@pytest.mark.parametrize(("settings", "told"), REFUSED)
def test_what_fine_tuning_has_not_is_refused(settings: dict[str, Any], told: str) -> None:
    refused(SftConfig, STEPS | settings, told)


@pytest.mark.parametrize("settings", TAKEN)
def test_what_fine_tuning_has_is_taken(settings: dict[str, Any]) -> None:
    assert SftConfig.model_validate(STEPS | settings)


def test_logits_are_stored_as_they_are_read() -> None:
    layout = {"processes": 4, "tensor": 2, "sequence": True, "distributed_optimizer": True, "threads": 3}
    config = SftConfig.model_validate(STEPS | STORED | {"seed": 5, "parallel": layout, "teacher_weights": "fp8"})
    stored = config.stored
    assert stored and (stored.top_k, stored.seq_length, stored.seed, stored.micro_batch) == (4, 16, 5, 2)
    assert (stored.teacher_weights, stored.parallel.tensor, stored.parallel.threads) == ("fp8", 2, 3)
    assert not stored.parallel.sequence and not stored.parallel.distributed_optimizer


def test_a_teacher_that_is_loaded_stores_nothing() -> None:
    assert SftConfig.model_validate(STEPS | {"kd_weight": 0.5, "top_k": 4}).stored is None


@pytest.mark.parametrize(
    ("settings", "taught"), [({}, 0), ({"kd_weight": 0.5}, 1), (STORED, 0)], ids=["alone", "loaded", "stored"]
)
def test_a_loaded_teacher_s_pass_is_counted(settings: dict[str, Any], taught: int) -> None:
    numbers = estimate(SftConfig.model_validate(STEPS | settings))
    assert numbers.tokens == 10 * 8 * 16 and numbers.work
    each = 3 * forward_flops(STUDENT, 16) + taught * forward_flops(TEACHER, 16)
    assert numbers.work.flops == numbers.tokens * each
