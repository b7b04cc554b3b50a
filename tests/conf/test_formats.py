"""Bits of the formats as their standards define them, and the widths that a format can pack."""

from __future__ import annotations

import dataclasses

import pytest

from conf.formats import (
    BLOCKS,
    FORMATS,
    Calibrator,
    KVFormat,
    QuantFormat,
    Widths,
    algorithm_of,
    kv_misfit,
    misfit,
    why_not,
)

BITS = {"e4m3": 1 + 4 + 3, "e2m1": 1 + 2 + 1, "int8": 8, "int4": 4}
WEIGHTS = {
    "fp8": "e4m3",
    "fp8_pb_wo": "e4m3",
    "fp8_pc_pt": "e4m3",
    "nvfp4": "e2m1",
    "nvfp4_mlp_only": "e2m1",
    "nvfp4_omlp_only": "e2m1",
    "int8_sq": "int8",
    "int4_awq": "int4",
    "w4a8_awq": "int4",
    "w4a8_nvfp4_fp8": "e2m1",
}
WIDTHS = Widths(
    hidden=("hidden_size", 256), ffn=("ffn", 512), heads=("heads", 256), kv=("kv", 128), head_dim=("head_dim", 32)
)


def widths(**sizes: int) -> Widths:
    return dataclasses.replace(WIDTHS, **{name: (name, size) for name, size in sizes.items()})


@pytest.mark.parametrize("name", FORMATS)
def test_a_weight_has_the_bits_of_its_type(name: QuantFormat) -> None:
    assert FORMATS[name].bits == BITS[WEIGHTS[name]]


@pytest.mark.parametrize(("name", "block"), [("nvfp4", 16), ("w4a8_nvfp4_fp8", 32), ("int4_awq", 128)])
def test_a_width_must_be_a_multiple_of_the_block(name: QuantFormat, block: int) -> None:
    assert FORMATS[name].block == block
    assert misfit(name, None, WIDTHS) is None
    for axis in ("hidden", "ffn", "heads"):
        found = misfit(name, None, widths(**{axis: 256 + block // 2}))
        assert found and found[:3] == (axis, 256 + block // 2, block)


def test_a_block_of_ones_own_replaces_the_formats() -> None:
    assert misfit("int4_awq", 64, widths(hidden=192)) is None
    found = misfit("int4_awq", None, widths(hidden=192))
    assert found and found[2] == 128


def test_a_format_without_blocks_fits_any_width() -> None:
    assert misfit("fp8", None, widths(hidden=7, ffn=5, heads=3)) is None


@pytest.mark.parametrize(("name", "axis"), [("nvfp4_mlp_only", "heads"), ("nvfp4_mlp_only", "kv"), ("nvfp4", "kv")])
def test_layers_left_alone_may_have_any_width(name: QuantFormat, axis: str) -> None:
    assert misfit(name, None, widths(**{axis: 7})) is None


def test_attention_outputs_count_where_they_are_quantized() -> None:
    found = misfit("nvfp4_omlp_only", None, widths(heads=24))
    assert found and found[:3] == ("heads", 24, 16)


def test_square_blocks_bind_the_outputs_too() -> None:
    found = misfit("fp8_pb_wo", None, widths(kv=64))
    assert found and found[:3] == ("kv", 64, 128)


@pytest.mark.parametrize("name", ["int4_awq", "w4a8_awq"])
def test_two_outputs_share_a_byte_in_int4(name: QuantFormat) -> None:
    found = misfit(name, None, widths(kv=127))
    assert found and found[:3] == ("kv", 127, 2)
    assert misfit(name, None, widths(kv=126)) is None


@pytest.mark.parametrize(
    ("kv", "width", "fits"), [("nvfp4", 24, False), ("nvfp4_affine", 24, False), ("fp8", 24, True)]
)
def test_an_nvfp4_cache_needs_heads_in_blocks_of_16(kv: KVFormat, width: int, fits: bool) -> None:
    found = kv_misfit(kv, widths(head_dim=width))
    assert (found is None) == fits
    assert kv_misfit(kv, widths(head_dim=48)) is None
    assert fits or (found and found[:3] == ("head_dim", 24, 16))


def test_a_reason_is_known_or_general() -> None:
    assert "per block" in why_not("nvfp4", "smoothquant")
    assert "does not export" in why_not("fp8", "awq_full")


@pytest.mark.parametrize(
    ("calibrator", "algorithm"), [("max", "NVFP4"), ("awq_lite", "NVFP4_AWQ"), ("awq_full", "NVFP4_AWQ")]
)
def test_a_calibrator_that_smooths_changes_the_algorithm(calibrator: Calibrator, algorithm: str) -> None:
    assert algorithm_of("nvfp4_mlp_only", calibrator) == algorithm
    assert algorithm_of("int4_awq", calibrator) == "W4A16_AWQ"


def test_blocks_that_may_be_chosen_and_those_that_are_squares() -> None:
    assert {name for name, form in FORMATS.items() if form.free_block} == {"fp8_pb_wo", "int4_awq", "w4a8_awq"}
    assert {name for name, form in FORMATS.items() if form.square} == {"fp8_pb_wo"}
    assert BLOCKS == (16, 32, 64, 128) and FORMATS["fp8_pb_wo"].block == FORMATS["w4a8_awq"].block == 128
