"""Who answers the questions of an evaluation, in the settings of its stage, and what it holds in memory."""

from __future__ import annotations

from typing import Any

import pytest

from conf.engines.asked import AnsweredBy, EngineConfig
from conf.estimate import memory, passes
from conf.estimate.numbers import Models
from conf.shape import num_params
from conf.stages.evaluate import EvaluateConfig
from tests.fixtures.stages import MODELS, STUDENT, TEACHER, estimate

VLLM = {"name": "vllm", "version": "0.32.0"}
SERVER = {"name": "endpoint", "endpoint": "http://a/v1", "model": {"depth": "m"}}
BOTH = num_params(STUDENT) + num_params(TEACHER)


@pytest.mark.parametrize(
    ("settings", "by"),
    [
        ({}, None),
        ({"engine": "vllm==0.32.0"}, VLLM),
        ({"engine": SERVER}, {"name": "endpoint", "endpoint": "http://a/v1", "model": "m"}),
        ({"engine": "vllm", "mmlu": None}, None),
        ({"mmlu_by": VLLM}, VLLM),  # of an earlier run
        ({"mmlu_by": {"name": "endpoint", "model": "m"}}, None),
        ({"mmlu_by": VLLM, "engine": "vllm==0.33.0"}, {"name": "vllm", "version": "0.33.0"}),
    ],
)
def test_the_engine_decides_and_an_earlier_runs_vllm_is_kept(settings: dict[str, Any], by: Any) -> None:
    found = EvaluateConfig.model_validate(settings).measured_for("depth")
    assert found.mmlu_by == (None if by is None else AnsweredBy.model_validate(by))
    assert found.engine == EngineConfig(), "everything else is measured here"
    assert EvaluateConfig.model_validate(settings).measured.mmlu_by is None


def evaluate(**settings: Any) -> EvaluateConfig:
    return EvaluateConfig.model_validate({"sequences": 5, "seq_length": 16, "batch": 3} | settings)


def batch(sequences: int, length: int = 16) -> passes.ForwardPass:
    return passes.ForwardPass(sequences=sequences, seq_length=length, precision="bf16", device="cpu")


def test_a_score_holds_the_teacher_unless_it_is_the_model() -> None:
    alone = Models(**vars(MODELS) | {"after": TEACHER})
    for models, together in ((MODELS, BOTH), (alone, num_params(TEACHER))):
        numbers = estimate(evaluate(), models)
        assert numbers.job and (numbers.tokens, numbers.params) == (5 * 16, num_params(models.after))
        assert numbers.job.peak("cpu") == memory.scoring(models.after, together, batch(3))


def test_long_text_is_read_a_sequence_at_a_time_by_the_model_alone() -> None:
    job = estimate(evaluate(batch=1, long_text={"lengths": [128, 4096]})).job
    assert job and job.peak("cpu") == memory.scoring(STUDENT, num_params(STUDENT), batch(1, 4096))
    short = estimate(evaluate(batch=300, long_text={"lengths": [128]})).job
    assert short and short.peak("cpu") == memory.scoring(STUDENT, BOTH, batch(300))


def test_an_engine_on_a_processor_ends_before_the_models_are_loaded() -> None:
    """1.8 GB of its own and the weights, where that is more than the scores take."""
    plain, asked = (estimate(evaluate(mmlu_by=by)).job for by in (None, VLLM))
    assert plain and asked
    found = asked.peak("cpu")
    assert (found.weights, found.other) == (2 * num_params(STUDENT), memory.LIBRARIES + 1.8e9)
    assert found.total == found.weights + found.other
    assert asked.peak("cuda") == plain.peak("cuda"), "the GPU is the engine's until it ends"
    served = estimate(evaluate(mmlu_by={"name": "endpoint", "endpoint": "http://a", "model": "m"})).job
    assert served and served.peak("cpu") == plain.peak("cpu")
    large = estimate(evaluate(mmlu_by=VLLM, batch=512, seq_length=8192)).job
    assert large and large.peak("cpu") == memory.scoring(STUDENT, BOTH, batch(512, 8192))
