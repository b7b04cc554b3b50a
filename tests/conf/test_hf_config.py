"""The meaning of a config.json: absent fields as transformers fills them, the rotary embedding as it reads it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from transformers import LlamaConfig, Qwen3Config

from conf.hf_config import REQUIRED, completed, head_dim, rope, stop_ids

SIZES = dict.fromkeys(REQUIRED, 64) | {"num_attention_heads": 4}
CLASSES = {"llama": LlamaConfig, "qwen3": Qwen3Config}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 8.0}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("given", [{}, {"num_key_value_heads": None}, {"num_key_value_heads": 2, "head_dim": 20}])
def test_absent_fields_get_transformers_defaults(kind: str, given: dict[str, Any]) -> None:
    theirs = CLASSES[kind](**SIZES, **given)
    ours = completed({"model_type": kind} | SIZES | given)
    names = ours.keys() - {"model_type", "architectures", "rope_theta", "rope_parameters"}
    assert {name: ours[name] for name in names} == {name: getattr(theirs, name) for name in names}
    assert {"num_key_value_heads", "rms_norm_eps", "tie_word_embeddings", "hidden_act", "attention_bias"} <= names
    assert head_dim(ours) == head_dim({"model_type": kind} | SIZES | given) == theirs.head_dim
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
