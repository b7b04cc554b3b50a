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
