"""The bound on attention logits: where it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.load import load
from conf.stages.optimizer import Optimizer
from conf.stages.teacher import TeacherConfig
from tests.fixtures.flow import RECIPE, told

SETTINGS: dict[str, Any] = {"steps": 40, "seq_length": 64, "global_batch": 8, "micro_batch": 4, "lr": 1e-3}
SETTINGS |= {"min_lr": 1e-5, "warmup_steps": 2, "optimizer": {"name": "adamw", "qk_clip": 100}}
CLIP = "teacher.optimizer={name: muon, qk_clip: 100}"


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        (
            {"context": 2},
            "parallel.context is 2 but optimizer.qk_clip needs whole sequences and weights; choose 1",
        ),
        ({"distributed_optimizer": True}, "parallel.distributed_optimizer is true but optimizer.qk_clip needs whole"),
    ],
)
def test_layouts_without_whole_logits_or_weights(layout: dict[str, Any], sentence: str) -> None:
    given = SETTINGS | {"model": "a/b", "parallel": {"processes": 2} | layout}
    with pytest.raises(ValidationError) as caught:
        TeacherConfig.model_validate(given)
    assert sentence in str(caught.value)
    TeacherConfig.model_validate(given | {"optimizer": "adamw"})
    TeacherConfig.model_validate(given | {"parallel": {"processes": 2, "tensor": 2}})


@pytest.mark.parametrize(
    ("family", "sentence"),
    [
        (
            "qwen3",
            "teacher.optimizer.qk_clip is 100 but the model is a Qwen3, whose norms on queries and keys undo",
        ),
        (
            "gemma2",
            "teacher.optimizer.qk_clip is 100 but the model is a Gemma 2, which caps its attention scores",
        ),
    ],
)
def test_families_in_which_scaled_weights_bound_nothing(family: str, sentence: str) -> None:
    assert sentence in told(f"teacher.shape.architecture={family}", CLIP)


def test_it_is_part_of_the_key_once_it_is_set() -> None:
    assert "qk_clip" not in Optimizer().identity() and Optimizer(qk_clip=100).identity()["qk_clip"] == 100
    load(str(RECIPE), [CLIP])
    with pytest.raises(ValidationError):
        Optimizer(qk_clip=0)
