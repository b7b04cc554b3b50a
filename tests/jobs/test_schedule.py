"""Learning rates that Megatron's scheduler gives, against the formulas of the config."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conf.stages.qad import QADConfig
from conf.stages.teacher import TeacherConfig

SHAPE = {"num_layers": 2, "hidden_size": 32, "ffn_hidden_size": 64, "num_attention_heads": 4, "num_query_groups": 2}
COMMON = {"steps": 40, "warmup_steps": 5, "lr": 1e-3, "min_lr": 1e-4, "global_batch": 8, "micro_batch": 2}
SCHEDULES: list[Any] = [
    "cosine",
    "linear",
    {"name": "wsd"},
    {"name": "wsd", "decay_share": 0.875},
    *({"name": "wsd", "decay_share": 0.3, "decay": decay} for decay in ("cosine", "exponential", "minus_sqrt")),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_megatron_follows_the_formula(schedule: Any) -> None:
    from jobs.megatron.optimizer import scheduler

    config = TeacherConfig.model_validate({**COMMON, "seq_length": 16, "shape": SHAPE, "schedule": schedule})
    group: dict[str, float] = {}
    megatron = scheduler(config, SimpleNamespace(param_groups=[group]))
    for step in range(1, 41):
        megatron.step(1)
        expected = step / 5 if step <= 5 else 0.1 + 0.9 * config.schedule.height(step, 40, 5)
        assert group["lr"] == pytest.approx(1e-3 * expected, abs=1e-12), step


def test_constant_stays() -> None:
    from jobs.megatron.optimizer import scheduler

    settings = {**COMMON, "seq_length": 16, "shape": SHAPE, "schedule": "constant", "min_lr": 1e-3}
    group: dict[str, float] = {}
    megatron = scheduler(TeacherConfig.model_validate(settings), SimpleNamespace(param_groups=[group]))
    megatron.step(40)
    assert group["lr"] == 1e-3


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_qad_follows_it_too(schedule: Any) -> None:
    from jobs.quantization.qad import learning_rate

    config = QADConfig.model_validate({**COMMON, "seq_length": 16, "schedule": schedule})
    rates = [learning_rate(config, done) for done in range(40)]
    assert rates[0] == pytest.approx(1e-3 / 5)
    assert rates[5] == pytest.approx(1e-3)
    assert rates[39] == pytest.approx(1e-4 + 9e-4 * config.schedule.height(39, 40, 5))
