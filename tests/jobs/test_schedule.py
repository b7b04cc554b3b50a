"""Learning rates that Megatron's scheduler gives, against the formulas of the config."""

from __future__ import annotations

from typing import Any

import pytest

from conf.stages.qad import QADConfig

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
def test_qad_follows_it_too(schedule: Any) -> None:
    from jobs.quantization.qad import learning_rate

    config = QADConfig.model_validate({**COMMON, "seq_length": 16, "schedule": schedule})
    rates = [learning_rate(config, done) for done in range(40)]
    assert rates[0] == pytest.approx(1e-3 / 5)
    assert rates[5] == pytest.approx(1e-3)
    assert rates[39] == pytest.approx(1e-4 + 9e-4 * config.schedule.height(39, 40, 5))
