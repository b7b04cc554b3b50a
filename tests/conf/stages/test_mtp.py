"""Which heads are refused when a recipe loads."""

from __future__ import annotations

from typing import Any

import pytest

from conf.checks.mtp import check_heads
from conf.families import FAMILIES
from conf.shape import Shape
from conf.stages.distill import DistillConfig
from conf.stages.mtp import MOST_HEADS, Mtp
from conf.stages.sft import SftConfig
from conf.stages.teacher import TeacherConfig

TRAINING: dict[str, Any] = {
    "steps": 30,
    "seq_length": 10,
    "global_batch": 8,
    "micro_batch": 4,
    "lr": 1e-4,
    "min_lr": 1e-5,
    "warmup_steps": 2,
    "mtp": {},
}


def test_defaults() -> None:
    assert DistillConfig.model_validate(TRAINING).mtp == Mtp(heads=1, weight=0.1, detach=False)
    assert DistillConfig.model_validate(TRAINING | {"mtp": None}).mtp is None


def test_a_sequence_has_tokens_for_the_last_head() -> None:
    """Of 9 tokens, head 7 has two labels to say, and head 8 one."""
    longest = TRAINING | {"seq_length": 9}
    assert DistillConfig.model_validate(longest | {"mtp": {"heads": 7}}).mtp == Mtp(heads=7)
    with pytest.raises(ValueError, match="choose at most 7 heads"):
        DistillConfig.model_validate(longest | {"mtp": {"heads": MOST_HEADS}})


def test_the_shortest_phase_has_tokens_for_the_last_head() -> None:
    longer = TRAINING | {"seq_length": 64, "mtp": {"heads": 7}}
    for first, fits in ((16, True), (8, False)):
        config = longer | {"phases": [{"until": 0.5, "seq_length": first}, {"until": 1, "seq_length": 128}]}
        if fits:
            assert DistillConfig.model_validate(config).mtp == Mtp(heads=7)
        else:
            with pytest.raises(ValueError, match="of 8 tokens has no tokens so far ahead; choose at most 6 heads"):
                DistillConfig.model_validate(config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parallel": {"processes": 2, "pipeline": 2}}, "parallel.pipeline is 2"),
        ({"parallel": {"processes": 2, "context": 2}}, "parallel.context is 2"),
        ({"offline": True, "top_k": 4}, "mtp is set but offline is true"),
        ({"steps": 0}, "mtp needs training steps"),
        ({"mtp": {"weight": 0}}, "weight"),
        ({"mtp": {"heads": 0}}, "heads"),
    ],
)
def test_what_heads_do_not_work_with_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DistillConfig.model_validate(TRAINING | changes)
    plain = TRAINING | changes | {"mtp": None}
    DistillConfig.model_validate(plain)


def test_packed_rows_have_no_heads() -> None:
    with pytest.raises(ValueError, match="mtp"):
        SftConfig.model_validate(TRAINING)


SIZES: dict[str, Any] = {
    "num_layers": 4,
    "hidden_size": 64,
    "ffn_hidden_size": 96,
    "num_attention_heads": 4,
    "num_query_groups": 2,
}
REFUSED = {"gemma2": "norms after", "gemma3_text": "norms after", "granite": "scales", "smollm3": "without rotary"}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_with_other_layers_are_refused(name: str) -> None:
    mixed = {"num_experts": 4, "experts_per_token": 2} if FAMILIES[name].experts else {}
    shape = Shape.model_validate(SIZES | {"architecture": name} | mixed)
    config = TeacherConfig.model_validate(TRAINING | {"shape": shape})
    reason = "mixes experts" if mixed else REFUSED.get(name)
    check_heads("teacher", config.model_copy(update={"mtp": None}), shape)
    if reason is None:
        check_heads("teacher", config, shape)
        return
    with pytest.raises(ValueError, match=rf"^teacher\.mtp is set but the model of x is a .*{reason}"):
        check_heads("teacher", config, shape, " of x")
