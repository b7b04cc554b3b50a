"""Packed layers written out by hand: their values, their shapes, and the parts that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jobs.quantization.packed_layer import ALGORITHMS, INPUT_BOUND, Packed, pack, round_fp8, spread

FP8 = torch.float8_e4m3fn
ONE = torch.tensor(1.0)


def fp8(**parts: Any) -> Packed:
    given = {"weight": torch.ones(2, 4).to(FP8), "weight_scale": ONE, "input_scale": ONE}
    return Packed(algorithm="FP8", **given | parts)


def int4(**parts: Any) -> Packed:
    """4 outputs of 4 inputs, a scale for every two."""
    weight = torch.full((2, 4), 0xF7, dtype=torch.uint8)
    given = {"weight": weight, "weight_scale": torch.ones(4, 2), "block": 2}
    return Packed(algorithm="W4A16_AWQ", **given | parts)


def squares(**parts: Any) -> Packed:
    """2 x 4 weights in squares of 2."""
    given = {"weight": torch.ones(2, 4).to(FP8), "weight_scale": torch.ones(1, 1, 2, 1), "block": 2}
    return Packed(algorithm="fp8_pb_wo", **given | parts)


def test_input_bounds_are_the_largest_numbers() -> None:
    assert INPUT_BOUND == {"fp8": 448.0, "int8": 127.0, "nvfp4": 2688.0}


def test_int4_holds_two_outputs_a_byte() -> None:
    weight = torch.tensor([[0x10, 0x87], [0xF9, 0x08]], dtype=torch.uint8)
    layer = int4(weight=weight, weight_scale=torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    assert layer.shape == (4, 2)
    # low halves are even outputs, high halves odd ones; codes above 7 are negative
    assert layer.dequantize(torch.float32).tolist() == [[0, 7], [2, -16], [-21, -24], [-4, 0]]


def test_w4a8_rounds_its_weights_to_fp8() -> None:
    weight = torch.tensor([[0x07]], dtype=torch.uint8)
    scale, second = torch.tensor([[0.35], [1.0]]), torch.tensor(0.125)
    layer = Packed(algorithm="W4A8_AWQ", weight=weight, weight_scale=scale, weight_scale_2=second, block=1)
    # 7 x 0.35 / 0.125 = 19.6, where E4M3 has 18, 20 and 22
    assert layer.dequantize(torch.float32).tolist() == [[2.5], [0]]


def test_fp4_holds_two_inputs_a_byte() -> None:
    codes = torch.tensor([[0x21, 0xF7] + [0] * 6 + [0x21] + [0] * 7], dtype=torch.uint8)
    scale = torch.tensor([[2.0, 4.0]]).to(FP8)
    layer = Packed(algorithm="NVFP4", weight=codes, weight_scale=scale, weight_scale_2=torch.tensor(0.5))
    assert layer.shape == (1, 32)
    # E2M1: 1 is 0.5, 2 is 1, 7 is 6, F is -6; the scales make 1 in the first block of 16, and 2 in the second
    values = layer.dequantize(torch.float32)
    assert values.tolist() == [[0.5, 1, 6, -6] + [0] * 12 + [1, 2] + [0] * 14]
    assert pack("NVFP4", values, scale, torch.tensor(0.5), 16).weight.tolist() == codes.tolist()


@pytest.mark.parametrize(
    ("scale", "algorithm", "block", "expected"),
    [
        ([[3.0]], "FP8", None, [[3] * 4] * 2),
        ([3.0, 5.0], "W8A8_SQ_PER_CHANNEL", None, [[3] * 4, [5] * 4]),
        ([[1.0, 2.0], [3.0, 4.0]], "W4A16_AWQ", 2, [[1, 1, 2, 2], [3, 3, 4, 4]]),
        ([[[[1.0], [2.0]]]], "fp8_pb_wo", 2, [[1, 1, 2, 2]] * 2),
    ],
)
def test_scales_are_spread(scale: Any, algorithm: str, block: int | None, expected: Any) -> None:
    found = spread(torch.tensor(scale), algorithm, (2, 4), block)
    assert found.expand(2, 4).tolist() == expected


def test_packing_clamps_what_is_out_of_range() -> None:
    weight, scale = torch.tensor([[500.0, -500.0], [3.0, -5.2]]), torch.tensor([2.0, 2.0])
    found = pack("W8A8_SQ_PER_CHANNEL", weight, scale, None, None)
    assert found.weight.tolist() == [[127, -128], [2, -3]]  # 1.5 goes to the even 2
    found = pack("FP8_PER_CHANNEL_PER_TOKEN", weight * 4, scale, None, None)
    assert found.weight.float().tolist() == [[448, -448], [6, -10]]
    assert round_fp8(torch.tensor([1.1, -900.0]), ONE).tolist() == [1.125, -448]


@pytest.mark.parametrize("layer", [fp8(), int4(), squares(), int4(pre_quant_scale=torch.ones(4))])
def test_whole_layers_pass(layer: Packed) -> None:
    layer.check("a")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (fp8(weight=torch.ones(2, 4)), r"a\.weight is torch.float32 of shape \(2, 4\) where torch.float8_e4m3fn is"),
        (fp8(weight=torch.full((2, 4), torch.nan).to(FP8)), r"a\.weight holds NaN bytes"),
        (fp8(weight_scale=torch.ones(2)), r"a\.weight_scale is .* of shape \(2,\) .* of shape \(\)"),
        (fp8(weight_scale=torch.tensor(0.0)), r"a\.weight_scale is not finite and positive"),
        (fp8(weight_scale=torch.tensor(-1.0)), r"a\.weight_scale is not finite and positive"),
        (fp8(weight_scale=torch.tensor(torch.inf)), r"a\.weight_scale is not finite and positive"),
        (fp8(input_scale=None), r"a lacks the tensor a\.input_scale"),
        (fp8(input_scale=torch.tensor(torch.nan)), r"a\.input_scale is not finite and positive"),
        (fp8(input_scale=torch.ones(1)), r"a\.input_scale is .* of shape \(1,\)"),
        (int4(weight_scale=torch.ones(4, 4)), r"a\.weight_scale is .* of shape \(4, 2\)"),
        (int4(pre_quant_scale=torch.ones(2)), r"a\.pre_quant_scale is .* of shape \(4,\)"),
        (int4(pre_quant_scale=torch.zeros(4)), r"a\.pre_quant_scale is not finite and positive"),
        (squares(block=None), r"\(1, 1, 2, 1\) for 2 x 4 weights, not one scale per square"),
        (squares(weight_scale=torch.ones(1, 2)), r"\(1, 2\) for 2 x 4 weights"),
    ],
)
def test_malformed_layers_are_refused(layer: Packed, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        layer.check("a")


@pytest.mark.parametrize("algorithm", ["W4A8_AWQ", "NVFP4", "NVFP4_AWQ", "W4A8_NVFP4_FP8"])
def test_a_second_scale_is_required(algorithm: str) -> None:
    kind = ALGORITHMS[algorithm]
    weight, scale = torch.zeros(2, 8, dtype=torch.uint8), torch.ones(2, 1).to(kind.scale)
    with pytest.raises(ValueError, match=r"lacks the tensor a\.weight_scale_2"):
        Packed(algorithm=algorithm, weight=weight, weight_scale=scale, input_scale=ONE).check("a")
