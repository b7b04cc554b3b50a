"""What quantization-aware distillation has not: every setting of a training that ModelOpt's does not know."""

from __future__ import annotations

from typing import Any

import pytest

from conf.stages.qad import QADConfig
from tests.fixtures.stages import STEPS, refused

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"loss": "reverse_kl"}, "quantize.qad.loss is reverse_kl, but ModelOpt's LogitsDistillationLoss supports only"),
    ({"loss": "jensen_shannon", "top_k": 4}, "quantize.qad.loss is jensen_shannon, but ModelOpt's"),
    ({"top_k": 4}, "quantize.qad.top_k is 4, but ModelOpt's LogitsDistillationLoss supports only forward KL over the"),
    ({"parallel": {"processes": 2}}, "quantize.qad.parallel.processes is 2 but QAD runs in one process"),
    ({"average": {"kind": "ema"}}, "quantize.qad.average is ema but QAD keeps no average of the weights"),
    ({"z_loss": 1e-4}, "quantize.qad.z_loss is 0.0001 but QAD has no such loss"),
    ({"retry": {}}, "quantize.qad.retry is set but QAD does not start over"),
    ({"optimizer": {"name": "adamw", "qk_clip": 100}}, "quantize.qad.optimizer.qk_clip is 100 but QAD looks at no"),
    ({"phases": [{"until": 1}]}, "quantize.qad.phases is set but QAD has one phase"),
    ({"spikes": {"window": 5}}, "quantize.qad.spikes is set but QAD leaves out no steps"),
    ({"steps": 0, "warmup_steps": 0}, "quantize.qad.steps is 0; choose at least 1 or remove qad"),
]


@pytest.mark.parametrize(("settings", "told"), REFUSED)
def test_what_modelopt_has_not_is_refused(settings: dict[str, Any], told: str) -> None:
    refused(QADConfig, STEPS | settings, told)


@pytest.mark.parametrize(
    "settings",
    [{}, {"steps": 1, "warmup_steps": 0}, {"loss": "forward_kl", "temperature": 2}, {"parallel": {"threads": 3}}],
)
def test_what_modelopt_has_is_taken(settings: dict[str, Any]) -> None:
    assert QADConfig.model_validate(STEPS | settings).ce_share == 0
