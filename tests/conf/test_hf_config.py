"""The meaning of a config.json: absent fields as transformers fills them, the rotary embedding as it reads it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from transformers import AutoConfig, LlamaConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from conf.families import FAMILIES
from conf.hf_config import REQUIRED, completed, head_dim, rope, rope_in_both_forms, stop_ids

SIZES = dict.fromkeys(REQUIRED, 64) | {"num_attention_heads": 4}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 8.0}


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("given", [{}, {"num_key_value_heads": None}, {"num_key_value_heads": 2, "head_dim": 20}])
def test_absent_fields_get_transformers_defaults(kind: str, given: dict[str, Any]) -> None:
    if kind == "mistral" and "num_key_value_heads" in given and given["num_key_value_heads"] is None:
        pytest.skip("transformers opens no Mistral whose num_key_value_heads is null")
    given = given | ({"sliding_window": None} if FAMILIES[kind].windowed else {})
    theirs = AutoConfig.for_model(kind, **SIZES, **given)
    ours = completed({"model_type": kind} | SIZES | given)
    names = ours.keys() - {"model_type", "architectures", "rope_theta", "rope_parameters"}
    assert {name: ours[name] for name in names} == {name: getattr(theirs, name) for name in names}
    assert {"num_key_value_heads", "rms_norm_eps", "tie_word_embeddings", "hidden_act"} <= names
    width = getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads
    assert head_dim(ours) == head_dim({"model_type": kind} | SIZES | given) == width
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
    assert ours.scaling == (
        None
        if theirs["rope_type"] == "default"
        else {name: theirs[name] for name in (*list(LLAMA3)[1:], "original_max_position_embeddings")}
    )


def test_every_end_of_sequence_id_counts() -> None:
    assert stop_ids(None, 2, [3, 2], []) == {2, 3}


WINDOWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "by default": ("mistral", {}, "leaves out sliding_window, which means a sliding window of 4,096 tokens"),
    "named": ("mistral", {"sliding_window": 64}, "has a sliding window of 64 tokens"),
    "of Phi-3": ("phi3", {"sliding_window": 2047}, "set max_position_embeddings to 2047"),
    "of later layers": ("qwen2", {"use_sliding_window": True}, "uses sliding-window attention"),
    "of some layers": ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "uses sliding_attention"),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_a_window_shorter_than_a_sequence_is_refused(case: str) -> None:
    kind, given, told = WINDOWS[case]
    with pytest.raises(ValueError, match=told):
        completed({"model_type": kind} | SIZES | given)


@pytest.mark.parametrize(("kind", "window"), [("mistral", 4096), ("phi3", 2047), ("llama", 64), ("qwen2", 64)])
def test_a_window_that_no_sequence_exceeds_is_none(kind: str, window: int) -> None:
    longest = window if FAMILIES[kind].windowed else 128
    whole = completed({"model_type": kind} | SIZES | {"sliding_window": window, "max_position_embeddings": longest})
    assert whole["sliding_window"] == window


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
        ({"model_type": "mixtral"}, "'mixtral', nearest to Mistral but for: it mixes experts; choose"),
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
