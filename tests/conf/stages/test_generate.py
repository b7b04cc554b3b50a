"""Settings with which a teacher answers prompts: what is refused, and what the plan counts."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate.memory import CUDA_CONTEXT
from conf.shape import num_params
from conf.stages.generate import GenerateConfig
from tests.fixtures.stages import MODELS, TEACHER, estimate, refused

PROMPTS = {"prompts": "world", "max_new_tokens": 8}
SERVER = {"endpoint": "http://a/v1", "endpoint_model": "a"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"endpoint": "http://a/v1"}, "set both or neither"),
        ({"endpoint_model": "a"}, "set both or neither"),
        ({"samples": 2, "temperature": 0}, "generate.samples is 2 but temperature 0 gives the same answer every time"),
        ({"stop": ["a", ""]}, "generate.stop contains an empty text, which would end every answer"),
    ],
)
def test_answers_that_cannot_be_are_refused(settings: dict[str, Any], told: str) -> None:
    refused(GenerateConfig, PROMPTS | settings, told)


@pytest.mark.parametrize(
    "settings",
    [SERVER, {"samples": 1, "temperature": 0}, {"samples": 2, "temperature": 0.1}, {"stop": ["a"]}, {"stop": []}],
)
def test_answers_that_are_just_possible(settings: dict[str, Any]) -> None:
    assert GenerateConfig.model_validate(PROMPTS | settings)


def test_answers_are_the_most_likely_unless_told() -> None:
    plain = GenerateConfig.model_validate(PROMPTS)
    assert (plain.samples, plain.temperature, plain.top_p) == (1, 0, 1)


@pytest.mark.parametrize("prompts", ["a.txt", ["a.txt", "world"]])
def test_prompts_are_one_source_or_several(prompts: str | list[str]) -> None:
    names = GenerateConfig.model_validate(PROMPTS | {"prompts": prompts}).sources
    assert [name.rpartition("/")[2] for name in names] == ([prompts] if isinstance(prompts, str) else prompts)


@pytest.mark.parametrize(("precision", "width"), [("bf16", 2), ("fp32", 4)])
def test_generation_holds_the_teacher_and_a_batch_s_cache(precision: str, width: int) -> None:
    config = GenerateConfig.model_validate(PROMPTS | {"batch": 3, "max_new_tokens": 10, "precision": precision})
    numbers = estimate(config)
    assert numbers.params == num_params(TEACHER) and numbers.job
    peak = numbers.job.peak("cuda")
    bytes_per_token = width * 2 * 4 * 2 * 8  # keys and values, layers, groups, width of a head
    assert (peak.weights, peak.other) == (width * num_params(TEACHER), CUDA_CONTEXT)
    assert peak.activations == bytes_per_token * 3 * (10 + 10), "prompts as long as the answers"


def test_a_server_has_its_own_memory() -> None:
    assert GenerateConfig.model_validate(PROMPTS | SERVER).estimate(MODELS) is None
