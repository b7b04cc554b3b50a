"""The rows of families: what is said of a family without one, and the defaults and matrices of transformers' classes.
What a whole config.json means is compared in test_hf_config.py."""

from __future__ import annotations

import re
from contextlib import nullcontext
from functools import cache
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from conf.families import FAMILIES, family_of, known

UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "listed": (
        {"model_type": "granitemoe"},
        "'granitemoe', nearest to Granite but for: it mixes experts; choose a Llama, ",
    ),
    "alike": ({"model_type": "qwen3x"}, "'qwen3x', nearest to Qwen3; choose a "),
    "signs": (
        {"model_type": "zzz", "vision_config": {}, "num_experts": 8, "num_local_experts": 8},
        "'zzz', nearest to Llama but for: it mixes experts and images; choose a ",
    ),
    "null": ({"model_type": "zzz", "num_experts": None}, "'zzz'; choose a "),
    "both": ({"model_type": "qwen3x", "kv_lora_rank": 4}, "nearest to Qwen3 but for: latent attention; choose a "),
    "empty": ({"model_type": "", "num_experts": 8}, "''; choose a "),
    "absent": ({"num_experts": 8}, "None; choose a "),
    "number": ({"model_type": 3, "num_experts": 8}, "3; choose a "),
}


@pytest.mark.parametrize(("config", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_family_without_a_row_is_told_the_nearest(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^here has model_type .*{re.escape(words)}"):
        family_of(config, "here")


def test_families_are_named_in_a_sentence() -> None:
    titles = "Llama, Qwen2, Qwen3, Mistral, Phi-3, SmolLM3, Granite, Gemma, Gemma 2, Gemma 3, Qwen3-MoE or Mixtral"
    assert known() == titles
    assert family_of({"model_type": "phi3"}) is FAMILIES["phi3"]


@cache
def theirs(kind: str) -> Any:
    """transformers' config of a family without arguments, but for the switch of the window."""
    switched = {"use_sliding_window": True} if FAMILIES[kind].windows == "switched" else {}
    return AutoConfig.for_model(kind, **switched)


@pytest.mark.parametrize("kind", FAMILIES)
def test_numbers_are_the_defaults_of_transformers(kind: str) -> None:
    row, config = FAMILIES[kind], theirs(kind)
    assert row.defaults == {name: getattr(config, name) for name in row.defaults}
    assert row.window == getattr(config, "sliding_window", None)
    # Classes with a fixed number have it whatever the query heads are; the others follow them.
    fewer = AutoConfig.for_model(kind, num_attention_heads=2, hidden_size=64)
    assert (row.absent_groups or 2) == fewer.num_key_value_heads
    bases = config.rope_parameters
    expected = (bases.get("full_attention", bases), bases.get("sliding_attention", {}))
    assert (row.rope_theta, row.local_theta) == tuple(base.get("rope_theta") for base in expected)
    if row.experts:
        assert row.experts.absent == getattr(config, row.experts.count)


@pytest.mark.parametrize("kind", FAMILIES)
def test_nothing_else_that_a_row_needs_has_a_default(kind: str) -> None:
    """Fields by which families differ, and which the row does not name, are absent or off in transformers' class."""
    row, config = FAMILIES[kind], theirs(kind)
    for name in ("attention_bias", "mlp_bias", "tie_word_embeddings", "norm_topk_prob"):
        assert bool(getattr(config, name, False)) is bool(row.defaults.get(name, False)), name
    assert row.multipliers is hasattr(config, "embedding_multiplier")
    assert row.query_scalar is hasattr(config, "query_pre_attn_scalar")
    assert row.unrotated is hasattr(config, "no_rope_layers")
    assert row.partly_rotated is ("partial_rotary_factor" in config.rope_parameters)
    assert getattr(config, row.activation) == row.activations[0]
    if row.experts:
        assert row.experts.normalized is not hasattr(config, "norm_topk_prob")


@cache
def small(kind: str) -> Any:
    """A model of transformers' own class with random weights, 1 layer deep."""
    mixture: dict[str, int] = {}
    if FAMILIES[kind].experts:
        mixture = {"num_experts": 2, "num_local_experts": 2, "moe_intermediate_size": 8, "num_experts_per_tok": 1}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    few = {"num_hidden_layers": 1, "vocab_size": 16, "head_dim": 8, "pad_token_id": None, "layer_types": None}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **few, **mixture))


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_a_model_stores_is_what_its_row_says(kind: str) -> None:
    row, names = FAMILIES[kind], set(small(kind).state_dict())
    layer = {name.removeprefix("model.layers.0.") for name in names if name.startswith("model.layers.0.")}
    assert row.qk_norm is ("self_attn.q_norm.weight" in layer)
    assert row.qkv_bias is ("self_attn.q_proj.bias" in layer)
    assert row.fused is ("self_attn.qkv_proj.weight" in layer) is ("mlp.gate_up_proj.weight" in layer)
    assert row.sandwiched is ("post_feedforward_layernorm.weight" in layer)
    assert bool(row.experts) is any("experts" in name for name in layer)


@pytest.mark.parametrize("kind", FAMILIES)
def test_norms_and_embeddings_are_scaled_as_the_row_says(kind: str) -> None:
    row, model = FAMILIES[kind], small(kind)
    weights, ids = model.state_dict(), torch.arange(4)[None]
    assert weights["model.norm.weight"].unique().tolist() == [0.0 if row.zero_centred else 1.0]
    with torch.no_grad():
        entered = model(ids, output_hidden_states=True).hidden_states[0]
    scale = entered.norm() / weights["model.embed_tokens.weight"][:4].norm()
    assert scale.item() == pytest.approx(32**0.5 if row.root_scaled else 1.0)


@pytest.mark.parametrize("kind", FAMILIES)
def test_heads_need_divide_the_hidden_size_where_the_row_says(kind: str) -> None:
    refused = pytest.raises(Exception, match="multiple of the number of attention heads")
    with refused if FAMILIES[kind].whole_heads else nullcontext():
        AutoConfig.for_model(kind, hidden_size=30, num_attention_heads=4, head_dim=8)


@pytest.mark.parametrize("kind", [kind for kind, row in FAMILIES.items() if "longrope" in row.ropes])
def test_longrope_is_counted_by_hidden_size_where_the_row_says(kind: str) -> None:
    """8 channels of a head are 4 pairs; hidden size / heads would be 8 pairs."""
    pairs = [1.0] * 4
    factors = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": pairs, "long_factor": pairs, "factor": 2.0}
    refused = pytest.raises(Exception, match="must have length 8, got 4")
    with refused if FAMILIES[kind].factors_by_hidden else nullcontext():
        AutoConfig.for_model(kind, hidden_size=64, num_attention_heads=4, head_dim=8, rope_parameters=factors)
