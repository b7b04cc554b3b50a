"""Students that a format cannot pack, and budgets of bits that a mix cannot reach."""

from __future__ import annotations

from typing import Any

import pytest

from conf.checks.quantize import check_format, least_bits, widths_of
from conf.shape import Shape
from conf.stages.quantize import QuantizeConfig

# hidden 64, heads 4 of 16 with 2 groups, MLP 96
SHAPE = Shape(
    num_layers=3, hidden_size=64, ffn_hidden_size=96, num_attention_heads=4, num_query_groups=2, vocab_size=500
)
LINEAR = 3 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
OUTPUT = 500 * 64


def mix(bits: float, *formats: str) -> QuantizeConfig:
    return QuantizeConfig.model_validate({"auto": {"formats": formats, "effective_bits": bits}})


def refused(config: QuantizeConfig, **changed: Any) -> str:
    with pytest.raises(ValueError) as caught:
        check_format("depth", config, SHAPE.model_copy(update=changed))
    return str(caught.value)


def test_widths_of_a_shape() -> None:
    widths = widths_of(SHAPE)
    sizes = (widths.hidden[1], widths.ffn[1], widths.heads[1], widths.kv[1], widths.head_dim[1])
    assert sizes == (64, 96, 64, 32, 16)


@pytest.mark.parametrize(("formats", "bits"), [(("fp8", "nvfp4"), 4), (("fp8",), 8)])
def test_the_least_bits_leave_the_output_at_16(formats: tuple[str, ...], bits: int) -> None:
    assert least_bits(mix(10, *formats), SHAPE) == pytest.approx((bits * LINEAR + 16 * OUTPUT) / (LINEAR + OUTPUT))


def test_a_budget_below_the_least_bits_is_refused() -> None:
    least = (4 * LINEAR + 16 * OUTPUT) / (LINEAR + OUTPUT)
    check_format("depth", mix(least + 0.001, "fp8", "nvfp4"), SHAPE)
    message = refused(mix(least - 0.001, "fp8", "nvfp4"))
    assert f"needs at least {least:.2f} bits" in message


def test_without_a_vocabulary_no_budget_is_judged() -> None:
    check_format("depth", mix(4.5, "nvfp4", "fp8"), SHAPE.model_copy(update={"vocab_size": None}))


def test_a_width_off_the_block_is_refused() -> None:
    check_format("depth", QuantizeConfig(format="nvfp4"), SHAPE)
    message = refused(QuantizeConfig(format="nvfp4"), ffn_hidden_size=100)
    assert "students.depth has ffn_hidden_size 100, not a multiple of 16" in message
    assert "block_size" not in message


def test_a_free_block_may_be_made_smaller() -> None:
    smaller = "set quantize.block_size to 32 (which no engine reads: it is simulated only) or choose fp8"
    assert smaller in refused(QuantizeConfig(format="int4_awq"), ffn_hidden_size=96)
    assert "set quantize.block_size to 64 or choose fp8" in refused(
        QuantizeConfig(format="int4_awq"), ffn_hidden_size=64
    )
    assert "block_size" not in refused(QuantizeConfig(format="int4_awq"), ffn_hidden_size=100), "none fits"


def test_what_no_cut_changes_is_not_to_be_cut() -> None:
    cache = refused(QuantizeConfig(format="fp8", kv_cache="nvfp4"), head_dim=8)
    assert "set kv_cache to fp8, which fits every head, or remove it, or set students.depth.quantize=false" in cache
    settings = QuantizeConfig(format="fp8_pb_wo", block_size=64)
    squares = refused(settings, head_dim=48, num_attention_heads=4, ffn_hidden_size=128)
    assert "num_query_groups x head_dim 96" in squares and "prune" not in squares
