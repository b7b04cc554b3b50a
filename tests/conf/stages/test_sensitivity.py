"""Formats that a mix may have, and what scoring each of them on each layer takes."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import passes
from conf.estimate.flops import forward_flops
from conf.estimate.memory import CUDA_CONTEXT, LIBRARIES
from conf.estimate.numbers import Models
from conf.parallel import Parallel
from conf.shape import num_params
from conf.stages.sensitivity import AutoConfig, SensitivityConfig
from tests.fixtures.stages import MODELS, STUDENT, estimate, refused


@pytest.mark.parametrize(
    ("formats", "told"),
    [
        (["int4_awq"], "quantize.auto.formats has int4_awq, whose calibration changes other layers or skips some"),
        (["fp8", "int8_sq"], "choose from fp8"),
        (["fp8", "fp8"], "quantize.auto.formats has duplicates: fp8, fp8; list each once"),
    ],
)
def test_formats_that_do_not_mix_are_refused(formats: list[str], told: str) -> None:
    refused(AutoConfig, {"formats": formats, "effective_bits": 8}, told)


def test_formats_that_mix_are_taken() -> None:
    assert AutoConfig(formats=("fp8", "nvfp4"), effective_bits=6).formats == ("fp8", "nvfp4")


SCORES: dict[str, Any] = {"formats": ("fp8", "nvfp4"), "seq_length": 16, "calibration_samples": 4, "score_samples": 2}


@pytest.mark.parametrize(
    ("method", "scored"), [("gradient", 2), ("kl_div", 2 * (1 + 4 * 2 * 2))], ids=["gradient", "kl_div"]
)
def test_each_format_is_calibrated_and_scored(method: str, scored: int) -> None:
    """By divergence once as it is, then with each of four groups of two layers in each of two formats."""
    numbers = estimate(SensitivityConfig.model_validate(SCORES | {"method": method}))
    assert (numbers.tokens, numbers.params) == (16 * (4 * 2 + scored), num_params(STUDENT))
    assert numbers.work and numbers.work.flops == numbers.tokens * forward_flops(STUDENT, 16)


def batch(sequences: int) -> passes.ForwardPass:
    return passes.ForwardPass(sequences=sequences, seq_length=16, precision="bf16", device="cpu")


@pytest.mark.parametrize("method", ["gradient", "kl_div"])
def test_scores_by_gradient_keep_the_activations(method: str) -> None:
    job = estimate(SensitivityConfig.model_validate(SCORES | {"method": method, "batch": 2})).job
    assert job
    found = job.peak("cpu")
    assert (found.weights, found.logits) == (6 * num_params(STUDENT), 8 * 2 * 16 * 128)
    assert (found.other, job.peak("cuda").other) == (LIBRARIES, CUDA_CONTEXT)
    kept, passed = (
        2 * passes.layer_bytes(STUDENT, batch(2), Parallel()),
        passes.forward_bytes(STUDENT, batch(2), Parallel()),
    )
    assert found.activations == (kept if method == "gradient" else passed)


def test_an_unknown_vocabulary_has_no_logits() -> None:
    shape = STUDENT.model_copy(update={"vocab_size": None})
    job = estimate(SensitivityConfig.model_validate(SCORES), Models(**vars(MODELS) | {"after": shape})).job
    assert job and job.peak("cpu").logits == 0


@pytest.mark.parametrize(("method", "each"), [("gradient", 2 * 8), ("kl_div", 10)])
def test_whole_scores_are_counted_where_they_are_capped(method: str, each: int) -> None:
    """transformers holds those of a layer, and by gradient keeps tanh and softmax of all in fp32."""
    shape = STUDENT.model_copy(update={"architecture": "gemma2"})
    config = SensitivityConfig.model_validate(SCORES | {"method": method, "batch": 2})
    job = estimate(config, Models(**vars(MODELS) | {"after": shape})).job
    assert job
    kept, passed = (
        2 * passes.layer_bytes(shape, batch(2), Parallel()),
        passes.forward_bytes(shape, batch(2), Parallel()),
    )
    assert job.peak("cpu").activations == (kept if method == "gradient" else passed) + each * 2 * 4 * 16**2
