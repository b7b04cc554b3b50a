"""Who answers the questions of an evaluation, in the settings of its stage."""

from __future__ import annotations

from typing import Any

import pytest

from conf.engines.asked import AnsweredBy, EngineConfig
from conf.stages.evaluate import EvaluateConfig

VLLM = {"name": "vllm", "version": "0.32.0"}
SERVER = {"name": "endpoint", "endpoint": "http://a/v1", "model": {"depth": "m"}}


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
