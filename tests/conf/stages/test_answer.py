"""What a model that answers takes of memory: its weights, the keys and values of a batch, and an engine beside it."""

from __future__ import annotations

from typing import Any

import pytest

from conf.engines.asked import AnsweredBy
from conf.estimate.memory import CUDA_CONTEXT, LIBRARIES
from conf.shape import num_params
from conf.stages.answer import AnswerConfig
from tests.fixtures.stages import MODELS, STUDENT, estimate

TOKEN = 2 * 2 * 2 * 8
"""Keys and values of two layers, two groups, 8 wide."""


def answer(**settings: Any) -> AnswerConfig:
    return AnswerConfig.model_validate({"batch": 3, "samples": 2, "max_new_tokens": 10} | settings)


@pytest.mark.parametrize(("precision", "width"), [("bf16", 2), ("fp32", 4)])
def test_answers_hold_the_model_and_a_batch_s_cache(precision: str, width: int) -> None:
    numbers = estimate(answer(precision=precision))
    assert numbers.params == num_params(STUDENT) and numbers.job
    peak = numbers.job.peak("cpu")
    assert (peak.weights, peak.other) == (width * num_params(STUDENT), LIBRARIES)
    assert peak.activations == width * TOKEN * 3 * 2 * (10 + 10), "prompts as long as the answers"


def test_answers_of_unknown_length_are_planned_with_1024_tokens() -> None:
    job = estimate(answer(max_new_tokens=None)).job
    assert job and job.peak("cpu").activations == 2 * TOKEN * 3 * 2 * (1024 + 1024)


def test_an_engine_on_a_processor_is_beside_the_model() -> None:
    here, there = (estimate(answer(engine=by)).job for by in (None, AnsweredBy(name="vllm")))
    assert here is not None and there is not None
    assert there.peak("cpu").total - here.peak("cpu").total == 1.8e9
    assert there.peak("cuda") == here.peak("cuda"), "the GPU is the engine's"
    assert here.peak("cuda").other == CUDA_CONTEXT


def test_a_server_has_its_own_memory() -> None:
    served = AnsweredBy(name="endpoint", endpoint="http://a", model="a")
    assert answer(engine=served).estimate(MODELS) is None
