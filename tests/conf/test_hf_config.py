"""The meaning of a config.json: absent fields as transformers fills them, the rotary embedding as it reads it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from transformers import AutoConfig, LlamaConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from conf.families import FAMILIES
from conf.hf_config import REQUIRED, completed, head_dim, rope_in_both_forms, stop_ids, windows
from conf.rotary import local_rope, rope

SIZES = dict.fromkeys(REQUIRED, 64) | {"num_attention_heads": 4}
NO_NULL = ("mistral", "gemma", "gemma2", "gemma3_text", "qwen3_moe", "mixtral")
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 8.0}


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("given", [{}, {"num_key_value_heads": None}, {"num_key_value_heads": 2, "head_dim": 20}])
def test_absent_fields_get_transformers_defaults(kind: str, given: dict[str, Any]) -> None:
    if kind in NO_NULL and "num_key_value_heads" in given and given["num_key_value_heads"] is None:
        pytest.skip(f"transformers opens no {kind} whose num_key_value_heads is null")
    given = given | ({"sliding_window": None} if FAMILIES[kind].windows == "all" else {})
    theirs = AutoConfig.for_model(kind, **SIZES, **given)
    ours = completed({"model_type": kind} | SIZES | given)
    names = ours.keys() - {"model_type", "architectures", "rope_theta", "rope_parameters"}
    activation = FAMILIES[kind].activation
    assert {name: ours[name] for name in names} == {name: getattr(theirs, name) for name in names}
    assert {"num_key_value_heads", "rms_norm_eps", "tie_word_embeddings", activation} <= names
    width = getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads
    assert head_dim(ours) == head_dim({"model_type": kind} | SIZES | given) == width
    if FAMILIES[kind].local_theta is None:
        assert ours["rope_theta"] == theirs.rope_parameters["rope_theta"]
    assert completed(ours) == ours


ROPES: list[dict[str, Any]] = [
    {},
    {"rope_theta": 5e5},
    {"rope_parameters": {"rope_theta": 7e4, "rope_type": "default"}},
    {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"original_max_position_embeddings": 128}},
    {"rope_theta": 5e5, "rope_scaling": LLAMA3},
    {"rope_parameters": LLAMA3 | {"rope_theta": 6e5, "original_max_position_embeddings": 32}},
    {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 16}, "rope_parameters": {"rope_theta": 3.0}},
    {"rope_theta": 5e5, "rope_parameters": {"rope_theta": 7e4, "rope_type": "default"}},
]


@pytest.mark.parametrize("given", ROPES)
def test_the_rotary_embedding_is_read_as_transformers_reads_it(given: dict[str, Any]) -> None:
    theirs = LlamaConfig(**SIZES, **copy.deepcopy(given)).rope_parameters  # it changes what it is given
    ours = rope(completed({"model_type": "llama"} | SIZES | given))
    assert ours.theta == theirs["rope_theta"]
    assert ours.kind == theirs["rope_type"]
    assert ours.values == {name: theirs[name] for name in ours.values}
    assert len(ours.values) == (0 if ours.kind == "default" else 4)


@pytest.mark.parametrize(
    ("kind", "given"),
    [("gemma3_text", {}), ("llama", {"rope_parameters": {"rope_theta": 7e4, "rope_type": "default"}})],
)
def test_a_base_that_is_named_elsewhere_is_not_written_twice(kind: str, given: dict[str, Any]) -> None:
    assert "rope_theta" not in completed({"model_type": kind} | SIZES | given)
    assert completed({"model_type": "llama"} | SIZES)["rope_theta"] == 10_000


def test_every_end_of_sequence_id_counts() -> None:
    assert stop_ids(None, 2, [3, 2], []) == {2, 3}


WINDOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "by default": ("mistral", {"max_position_embeddings": 8192}),
    "null": ("mistral", {"sliding_window": None}),
    "named": ("mistral", {"sliding_window": 16}),
    "of Phi-3": ("phi3", {"sliding_window": 16}),
    "switched off": ("qwen2", {"sliding_window": 16}),
    "of later layers": ("qwen2", {"sliding_window": 16, "use_sliding_window": True}),
    "of named layers": ("qwen3", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 40}),
    "of a list": (
        "qwen2",
        {
            "sliding_window": 16,
            "use_sliding_window": True,
            "layer_types": ["full_attention", "sliding_attention"] * 32,
        },
    ),
    "of unrotated layers": ("smollm3", {"sliding_window": 16, "use_sliding_window": True}),
    "of five of six": ("gemma3_text", {"sliding_window": 16}),
    "of every other": ("gemma2", {"sliding_window": 16}),
    "of every other by default": ("gemma2", {"max_position_embeddings": 8192}),
    "of every other, whatever the pattern": ("gemma2", {"sliding_window": 16, "sliding_window_pattern": 3}),
    "of a list, Gemma 2": (
        "gemma2",
        {"sliding_window": 16, "layer_types": ["full_attention", *["sliding_attention"] * 63]},
    ),
    "of two of three": ("gemma3_text", {"sliding_window": 16, "sliding_window_pattern": 3}),
    "of one token": ("mistral", {"sliding_window": 1}),
    "of no layer": ("gemma3_text", {"sliding_window": 16, "sliding_window_pattern": 1}),
    "longer than a sequence": ("gemma3_text", {"sliding_window": 64}),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_the_windows_are_those_of_transformers(case: str) -> None:
    kind, given = WINDOWS[case]
    sizes = SIZES | {"max_position_embeddings": 64, **given}
    theirs = AutoConfig.for_model(kind, **copy.deepcopy(sizes))
    named = {"full_attention": None, "sliding_attention": theirs.sliding_window}
    types = getattr(theirs, "layer_types", None) or ["sliding_attention"] * 64
    ours = completed({"model_type": kind} | sizes)
    longest = ours["max_position_embeddings"]
    expected = [named[name] for name in types]
    assert windows(ours) == [None if window is None or window >= longest else window for window in expected]
    assert completed(ours) == ours


BROKEN_WINDOWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a word": ("mistral", {"sliding_window": "4k"}, "has sliding_window '4k'; it must be a whole number above 0"),
    "of no token": ("mistral", {"sliding_window": 0}, "has sliding_window 0; it must be a whole number above 0"),
    "true": ("mistral", {"sliding_window": True}, "has sliding_window True; it must be a whole number above 0"),
    "none, but layers": ("gemma3_text", {"sliding_window": None}, "has sliding_window None; it must be a whole number"),
    "none, but every other": ("gemma2", {"sliding_window": None}, "has sliding_window None; it must be a whole number"),
    "not switched on": (
        "qwen2",
        {"layer_types": ["sliding_attention"] * 64},
        "does not set use_sliding_window; set",
    ),
    "of Llama": (
        "llama",
        {"layer_types": ["sliding_attention"] * 64},
        "sliding_attention, which is not supported for",
    ),
    "chunks": ("qwen3", {"layer_types": ["chunked_attention"] * 64}, "chunked_attention, which is not supported for Q"),
    "too few": (
        "gemma3_text",
        {"layer_types": ["full_attention"]},
        "has 1 layer_types; it must hold one for each of",
    ),
    "no pattern": ("gemma3_text", {"sliding_window_pattern": 0}, "sliding_window_pattern 0; it must be a whole number"),
}


@pytest.mark.parametrize("case", BROKEN_WINDOWS)
def test_a_window_that_means_nothing_is_refused(case: str) -> None:
    kind, given, told = BROKEN_WINDOWS[case]
    with pytest.raises(ValueError, match=told):
        completed({"model_type": kind} | SIZES | given)


PAIRS = [1.0] * 8
LONG = {"rope_type": "longrope", "short_factor": PAIRS, "long_factor": PAIRS}
BROKEN_ROPES: dict[str, tuple[str, Any, str]] = {
    "unheard": ("llama", {"rope_type": "spiral"}, "by 'spiral'; supported for Llama are default, linear, dynamic"),
    "a list": ("llama", {"rope_type": ["linear"]}, "by '.*'; supported for Llama are"),
    "no mapping": ("llama", "linear", "describes its rotary embedding by linear; it must be a mapping"),
    "linear without a factor": ("llama", {"rope_type": "linear"}, "by 'linear' without factor; add it"),
    "a factor of 0": ("llama", {"rope_type": "dynamic", "factor": 0}, "has factor 0; it must be a number above 0"),
    "yarn without a factor": ("qwen2", {"type": "yarn", "factor": None}, "by 'yarn' without factor; add it"),
    "a beta of words": ("qwen2", {"type": "yarn", "factor": 2, "beta_fast": "x"}, "has beta_fast 'x'; it must be"),
    "one list": ("llama", {"rope_type": "longrope", "short_factor": PAIRS}, "'longrope' without long_factor; add it"),
    "a short list": (
        "llama",
        LONG | {"long_factor": [1.0]},
        "1 numbers in long_factor; it must hold one for each of 8",
    ),
    "a list with 0": ("llama", LONG | {"short_factor": [0, *PAIRS[1:]]}, "has short_factor 0; it must be a number"),
    "Phi-3, linear": (
        "phi3",
        {"rope_type": "linear", "factor": 2},
        "'linear'; supported for Phi-3 are default, long",
    ),
    "Phi-3, odd": ("phi3", {"partial_rotary_factor": 0.7}, "which is 11.2 of a head's 16 channels; it must be an even"),
    "Llama, part": ("llama", {"partial_rotary_factor": 0.5}, "choose a model that rotates whole heads"),
    "by layer": ("llama", {"full_attention": {"rope_type": "default"}}, "differently for each kind of layer"),
    "Gemma 3, yarn": ("gemma3_text", {"full_attention": {"rope_type": "yarn"}}, "for Gemma 3 are default, linear"),
    "Gemma 3, a word": ("gemma3_text", {"full_attention": "linear"}, "by linear; it must be a mapping"),
    "Gemma 3, flat": ("gemma3_text", {"rope_type": "default"}, "not by kind of layer; name sliding_attention and full"),
}


@pytest.mark.parametrize("case", BROKEN_ROPES)
def test_a_broken_rotary_embedding_is_refused(case: str) -> None:
    kind, given, told = BROKEN_ROPES[case]
    with pytest.raises(ValueError, match=told):
        completed({"model_type": kind} | SIZES | {"head_dim": 16, "rope_parameters": given})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"rope_theta": 5e5, "rope_local_base_freq": 2e4},
        {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {"rope_scaling": {"type": "linear", "factor": 8.0}},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 3e5}}},
    ],
)
def test_both_rotary_embeddings_of_gemma_are_read(given: dict[str, Any]) -> None:
    theirs = AutoConfig.for_model("gemma3_text", **SIZES, **copy.deepcopy(given)).rope_parameters
    whole = completed({"model_type": "gemma3_text"} | SIZES | given)
    for ours, their in ((rope(whole), theirs["full_attention"]), (local_rope(whole), theirs["sliding_attention"])):
        assert ours is not None
        assert (ours.theta, ours.kind) == (their["rope_theta"], their["rope_type"])
        assert ours.values.get("factor") == (their.get("factor") if ours.kind == "linear" else None)
    both = rope_in_both_forms(whole)
    older = {name: value for name, value in both.items() if name != "rope_parameters"}
    for config in (both, older):
        assert (rope(config), local_rope(config)) == (rope(whole), local_rope(whole))


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        ("granite", {"logits_scaling": 0}, "has logits_scaling 0; it must be a number above 0"),
        ("granite", {"residual_multiplier": "a"}, "has residual_multiplier 'a'; it must be a number above 0"),
        ("gemma3_text", {"query_pre_attn_scalar": 0}, "has query_pre_attn_scalar 0; it must be a number above 0"),
        ("gemma2", {"query_pre_attn_scalar": "h"}, "has query_pre_attn_scalar 'h'; it must be a number above 0"),
        ("gemma2", {"use_bidirectional_attention": True}, "sets use_bidirectional_attention; choose a model that"),
        (
            "gemma3_text",
            {"final_logit_softcapping": 30.0},
            "final_logit_softcapping, a cap that is not supported for",
        ),
        ("gemma3_text", {"use_bidirectional_attention": True}, "sets use_bidirectional_attention; choose a model that"),
        ("gemma", {"hidden_act": "silu"}, "has hidden_act silu; only gelu_pytorch_tanh or gelu is supported for Gemma"),
        ("llama", {"hidden_act": "gelu"}, "has hidden_act gelu; only silu or swish is supported for Llama"),
    ],
)
def test_what_a_family_does_not_compute_is_refused(kind: str, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        completed({"model_type": kind} | SIZES | given)


@pytest.mark.parametrize("given", [{}, {"no_rope_layer_interval": 3}, {"no_rope_layers": [0] * 64}])
def test_layers_without_rotary_are_those_of_transformers(given: dict[str, Any]) -> None:
    ours = completed({"model_type": "smollm3"} | SIZES | copy.deepcopy(given))
    assert ours["no_rope_layers"] == AutoConfig.for_model("smollm3", **SIZES, **given).no_rope_layers


@pytest.mark.parametrize("given", [{"no_rope_layers": [1, 0]}, {"no_rope_layers": "1"}, {"no_rope_layer_interval": 0}])
def test_a_broken_list_of_rotary_layers_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"config.json has {next(iter(given))}"):
        completed({"model_type": "smollm3"} | SIZES | given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model_type": "granitemoe"}, "'granitemoe', nearest to Granite but for: it mixes experts; choose"),
        ({"model_type": "gemma3"}, "'gemma3', nearest to Gemma 3 but for: images; choose"),
        ({"model_type": "qwen2_5_new", "num_experts": 8}, "nearest to Qwen2 but for: it mixes experts; choose"),
        ({"model_type": "unheard", "layer_norm_eps": 1e-5, "vision_config": {}}, "Llama but for: images and LayerNorm"),
        ({"model_type": "unheard"}, "has model_type 'unheard'; choose a Llama, Qwen2"),
    ],
)
def test_another_family_is_told_the_nearest(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        completed(SIZES | given)


def test_the_table_names_transformers_classes() -> None:
    for kind, family in FAMILIES.items():
        assert MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind] == family.architecture


@pytest.mark.parametrize("given", ROPES, ids=str)
def test_both_forms_of_a_rotary_embedding_say_the_same(given: dict[str, Any]) -> None:
    """transformers 5 reads what it read before; transformers 4 knows only the older form."""
    given = {"max_position_embeddings": 64} | given
    both = rope_in_both_forms(given)
    assert rope(both) == rope(given)
    ours, theirs = (LlamaConfig(**SIZES | copy.deepcopy(each)).rope_parameters for each in (both, given))
    assert {name: ours[name] for name in theirs} == theirs
    if "rope_parameters" not in given:
        assert both == given
        return
    assert both["rope_theta"] == rope(given).theta
    older = {name: value for name, value in both.items() if name != "rope_parameters"}
    assert rope(older) == rope(given)
