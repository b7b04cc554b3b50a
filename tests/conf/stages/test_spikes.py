"""Spikes: settings that are refused when the recipe loads, and what enters a key."""

from __future__ import annotations

from typing import Any

import pytest

from conf.stages.spikes import Spikes
from conf.stages.teacher import TeacherConfig
from tests.fixtures.flow import told

SHAPE = {"num_layers": 2, "hidden_size": 32, "ffn_hidden_size": 64, "num_attention_heads": 4, "num_query_groups": 2}
SETTINGS: dict[str, Any] = {"steps": 100, "seq_length": 64, "global_batch": 4, "micro_batch": 2, "lr": 1e-3}
SETTINGS |= {"min_lr": 1e-4, "warmup_steps": 1}
WRONG = [
    (["distill.spikes={window: 4}"], "distill.spikes.window"),
    (["distill.spikes={window: 100000}"], "spikes.window 100000 is not below steps"),
    (["distill.spikes={window: 5, grad_norm: 1}"], "distill.spikes.grad_norm"),
    (["distill.spikes={window: 5, loss: 0.5}"], "distill.spikes.loss"),
    (["distill.spikes={window: 5, most: 0}"], "distill.spikes.most"),
    (["distill.spikes={window: 5, grad_norm: null, loss: null}"], "spikes.grad_norm and spikes.loss are both empty"),
    (["distill.spikes={window: 5, rewind: true}"], "distill.spikes.rewind"),
]


@pytest.mark.parametrize(("overrides", "sentence"), WRONG, ids=[overrides[0] for overrides, _ in WRONG])
def test_wrong_settings_are_refused(overrides: list[str], sentence: str) -> None:
    assert sentence in told(*overrides)


def test_a_key_changes_only_where_spikes_are_skipped() -> None:
    plain, watched = (
        TeacherConfig.model_validate(SETTINGS | {"shape": SHAPE} | more).identity() for more in ({}, {"spikes": {}})
    )
    assert "spikes" not in plain
    assert watched["spikes"] == {"window": 50, "grad_norm": 5.0, "loss": 2.0, "most": 10}


def test_training_goes_back_only_where_that_is_chosen() -> None:
    assert (Spikes().point_every, Spikes(action="rewind").point_every, Spikes(action="rewind").most_rewinds) == (
        None,
        50,
        3,
    )
    often = Spikes(action="rewind", rewind_every=7, rewinds=9)
    assert (often.point_every, often.most_rewinds) == (7, 9)
    told = {name: Spikes.model_fields[name].description or "" for name in ("rewind_every", "rewinds")}
    assert told["rewind_every"].endswith("empty: 50.") and told["rewinds"].endswith("empty: 3.")
