"""What files call the matrices of experts, however Megatron holds them."""

from __future__ import annotations

import pytest

from conf.families import FAMILIES
from jobs.megatron.weight_names import OF_EXPERT, names_of

QWEN, MIXTRAL = FAMILIES["qwen3_moe"], FAMILIES["mixtral"]


@pytest.mark.parametrize("parameter", ["local_experts.{}.linear_fc{}.weight", "linear_fc{1}.weight{0}"])
@pytest.mark.parametrize(("first", "number", "stored"), [(0, 0, 0), (0, 12, 12), (64, 3, 67)])
def test_experts_are_named_by_their_number_in_the_model(parameter: str, first: int, number: int, stored: int) -> None:
    """One by one, as modules or as weights of one module; counted from this rank's first."""
    where = f"mlp.experts.{stored}."
    name = "mlp.experts." + parameter
    assert names_of(name.format(number, 1), QWEN, first) == (
        (f"{where}gate_proj.weight", f"{where}up_proj.weight"),
        "gated",
    )
    assert names_of(name.format(number, 2), QWEN, first) == ((f"{where}down_proj.weight",), "columns")


def test_a_family_has_names_of_its_own() -> None:
    names, split = names_of("mlp.experts.linear_fc1.weight5", MIXTRAL, 2)
    assert names == tuple(f"block_sparse_moe.experts.7.{part}.weight" for part in ("w1", "w3")) and split == "gated"
    assert names_of("mlp.router.weight", MIXTRAL, 2) == (("block_sparse_moe.gate.weight",), "whole")
    assert names_of("mlp.linear_fc1.layer_norm_weight", MIXTRAL) == (("post_attention_layernorm.weight",), "whole")
    assert names_of("self_attention.linear_proj.weight", MIXTRAL) == (("self_attn.o_proj.weight",), "columns")


@pytest.mark.parametrize(
    ("family", "before_mlp", "read", "gated"),
    [
        ("llama", "post_attention", "q_proj k_proj v_proj", "gate_proj up_proj"),
        ("gemma2", "pre_feedforward", "q_proj k_proj v_proj", "gate_proj up_proj"),
        ("phi3", "post_attention", "qkv_proj", "gate_up_proj"),
    ],
)
def test_matrices_of_a_dense_layer(family: str, before_mlp: str, read: str, gated: str) -> None:
    """As transformers calls them: in one for phi3, and with four norms a layer for gemma2."""
    own = FAMILIES[family]
    for name in ("pre_mlp_layernorm.weight", "mlp.linear_fc1.layer_norm_weight"):
        assert names_of(name, own) == ((f"{before_mlp}_layernorm.weight",), "whole")
    expected = tuple(f"self_attn.{part}.weight" for part in read.split())
    assert names_of("self_attention.linear_qkv.weight", own) == (expected, "qkv")
    assert names_of("mlp.linear_fc1.weight", own) == (tuple(f"mlp.{part}.weight" for part in gated.split()), "gated")
    assert names_of("mlp.linear_fc2.weight", own) == (("mlp.down_proj.weight",), "columns")


@pytest.mark.parametrize(
    "name",
    [
        "mlp.experts.linear_fc3.weight0",
        "mlp.experts.linear_fc1.weight",
        "mlp.experts.local_experts.linear_fc1.weight",
        "mlp.experts.local_experts.1.linear_fc1.bias",
        "mlp.experts.weight1",
    ],
)
def test_no_other_parameter_is_an_experts(name: str) -> None:
    assert OF_EXPERT.fullmatch(name) is None
    with pytest.raises(AssertionError, match="no Hugging Face name"):
        names_of(name, QWEN)
