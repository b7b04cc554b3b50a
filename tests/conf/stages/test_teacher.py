"""Where a teacher comes from, and what importing or training it takes."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate.flops import forward_flops
from conf.estimate.memory import CUDA_CONTEXT, LIBRARIES, rank_params
from conf.estimate.numbers import Models
from conf.parallel import Parallel
from conf.shape import num_params
from conf.stages.teacher import TeacherConfig
from tests.fixtures.stages import SHAPE, STEPS, STUDENT, TEACHER, estimate, refused

ONE = "teacher needs exactly one of model (a Hugging Face directory or id) and shape (trained from scratch); set one"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shape": SHAPE, "model": "here"}, ONE),
        ({}, ONE),
        ({"shape": SHAPE, "steps": 0}, "teacher.steps is 0 but teacher.shape starts from random weights"),
    ],
)
def test_a_teacher_has_one_origin(settings: dict[str, Any], told: str) -> None:
    refused(TeacherConfig, STEPS | settings, told)


def test_a_model_without_training_settings_is_imported() -> None:
    imported = TeacherConfig.model_validate({"model": "a/b", "seed": 3})
    assert (imported.steps, imported.seq_length, imported.seed) == (0, 8, 3)
    refused(TeacherConfig, {"model": "a/b", "lr": 1e-3}, "steps")
    assert TeacherConfig.model_validate(STEPS | {"model": "a/b"}).steps == 10
    refused(TeacherConfig, {"shape": SHAPE}, "steps")


def test_a_teacher_is_trained_alone() -> None:
    numbers = estimate(TeacherConfig.model_validate(STEPS | {"shape": SHAPE}))
    assert (numbers.steps, numbers.tokens) == (10, 10 * 8 * 16)
    assert numbers.work and numbers.work.flops == 1280 * 3 * forward_flops(STUDENT, 16)


@pytest.mark.parametrize("vocab_size", [128, 4096, None])
@pytest.mark.parametrize("weight_bytes", [2, 4])
def test_an_import_holds_the_weights_and_one_part_of_both_models(vocab_size: int | None, weight_bytes: int) -> None:
    """The embedding is the largest part of a model with many tokens; a layer's share of the rest otherwise."""
    shape = TEACHER.model_copy(update={"vocab_size": vocab_size})
    models = Models(teacher=shape, before=shape, after=shape, where="teacher", weight_bytes=weight_bytes)
    numbers = estimate(TeacherConfig.model_validate({"model": "a/b", "steps": 0}), models)
    params, embedding = num_params(shape), (vocab_size or 0) * 32
    part = embedding if vocab_size == 4096 else (params - embedding) // 4
    assert numbers.job is not None and (numbers.job.spread, numbers.job.shapes) == ("tensor", (shape,))
    peak = numbers.job.peak("cpu")
    assert (numbers.params, numbers.disk, peak.weights) == (params, weight_bytes * params, weight_bytes * params)
    assert (peak.activations, peak.teacher) == (4 * part, 4 * part), "one part of each model in fp32"
    assert peak.logits == 2 * 4 * (2 * 256) * (vocab_size or 0), "both models' logits of two sequences in fp32"
    assert (peak.other, numbers.job.peak("cuda").other) == (LIBRARIES, CUDA_CONTEXT)


def test_ranks_of_an_import_share_its_weights() -> None:
    layout = Parallel(processes=4, tensor=2, pipeline=2)
    config = TeacherConfig.model_validate({"model": "a/b", "steps": 0, "parallel": layout})
    models = Models(teacher=TEACHER, before=TEACHER, after=TEACHER, where="teacher")
    job = estimate(config, models).job
    assert job
    part, peak = (num_params(TEACHER) - 128 * 32) // 4, job.peak("cpu")
    assert peak.weights == 2 * max(rank_params(TEACHER, layout, stage) for stage in (0, 1))
    assert (peak.activations, peak.teacher) == (4 * part // 2, 4 * part)
