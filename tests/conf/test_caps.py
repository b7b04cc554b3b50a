"""Gemma 2's caps in a config.json, and what engines want to find there."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from transformers import AutoConfig

from conf.families import FAMILIES
from conf.hf_config import CAPS, REQUIRED, caps, completed, for_engines

SIZES = dict.fromkeys(REQUIRED, 64) | {"num_attention_heads": 4}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (50.0, 30.0)),
        ({"attn_logit_softcapping": None}, (None, 30.0)),
        ({"final_logit_softcapping": None}, (50.0, None)),
        ({"attn_logit_softcapping": 4.0, "final_logit_softcapping": 3.5}, (4.0, 3.5)),
    ],
)
def test_caps_are_those_of_transformers(given: dict[str, Any], expected: tuple[float | None, ...]) -> None:
    """A null switches a cap off, where elsewhere it means the default."""
    theirs = AutoConfig.for_model("gemma2", **SIZES, **given)
    ours = completed({"model_type": "gemma2"} | SIZES | given)
    assert caps(ours) == expected == (theirs.attn_logit_softcapping, theirs.final_logit_softcapping)
    assert tuple(ours[name] for name in CAPS) == expected
    assert completed(ours) == ours


@pytest.mark.parametrize(
    ("given", "activation"),
    [
        ({}, "gelu_pytorch_tanh"),
        ({"hidden_activation": "gelu"}, "gelu"),
        ({"hidden_activation": "gelu", "hidden_act": "gelu_pytorch_tanh"}, "gelu_pytorch_tanh"),
    ],
)
def test_engines_find_the_activation_under_its_other_name(given: dict[str, Any], activation: str) -> None:
    """Where it is not there already; transformers ignores it."""
    config = {"model_type": "gemma2", "rope_parameters": {"rope_theta": 3.0}} | SIZES | given
    told = for_engines(config)
    assert told == config | {"hidden_act": activation, "rope_theta": 3.0}
    theirs = AutoConfig.for_model(**copy.deepcopy(told))
    assert theirs.hidden_activation == given.get("hidden_activation", "gelu_pytorch_tanh")
    assert "hidden_act" not in for_engines({"model_type": "gemma3_text"} | SIZES)


def test_other_families_have_no_caps() -> None:
    for kind in FAMILIES.keys() - {"gemma2"}:
        whole = completed({"model_type": kind} | SIZES)
        assert caps(whole) == (None, None)
        assert not whole.keys() & set(CAPS)


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        ("gemma2", {"attn_logit_softcapping": 0}, "has attn_logit_softcapping 0; it must be a number above 0"),
        ("gemma2", {"final_logit_softcapping": -1.0}, "has final_logit_softcapping -1.0; it must be a number above 0"),
        ("gemma2", {"final_logit_softcapping": True}, "has final_logit_softcapping True; it must be a number above 0"),
        ("llama", {"attn_logit_softcapping": 50.0}, "sets attn_logit_softcapping, a cap that is not supported for Lla"),
    ],
)
def test_a_cap_that_is_not_computed_is_refused(kind: str, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        completed({"model_type": kind} | SIZES | given)
