"""A row of the table of families that says nothing is Llama."""

from __future__ import annotations

import dataclasses

from transformers import LlamaConfig

from conf.family import Experts, Family

PLAIN = Family(title="Llama", architecture="LlamaForCausalLM")


def test_what_a_row_does_not_say_is_as_in_llama() -> None:
    said = {field.name: getattr(PLAIN, field.name) for field in dataclasses.fields(Family)}
    assert [name for name, value in said.items() if value] == [
        *("title", "architecture", "windows", "ropes", "activations", "activation", "rope_theta")
    ]
    assert (PLAIN.windows, PLAIN.activation, PLAIN.absent_groups) == ("none", "hidden_act", None)
    assert LlamaConfig().hidden_act in PLAIN.activations
    assert LlamaConfig().rope_parameters["rope_theta"] == PLAIN.rope_theta


def test_absent_sizes_are_unknown_not_zero() -> None:
    optional = ("window", "local_theta", "attention_cap", "logits_cap", "absent_groups", "experts", "nemo")
    assert all(getattr(PLAIN, name) is None for name in optional) and PLAIN.period == 0


def test_weights_of_a_tokens_experts_add_up_to_one() -> None:
    mixture = Experts(count="n", width="w", module="mlp", projections=("a", "b", "c"), absent=8)
    assert mixture.normalized is True
