"""The settings of quantizers for formats, mixes, inputs and caches, and blocks of inputs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.stages.quantize import QuantizeConfig
from jobs.quantization import quantizers


@pytest.mark.parametrize("kind", ["fp8_blocks", "fp8"])
def test_inputs_of_square_blocks_are_told_the_block(kind: Any) -> None:
    found = quantizers.input_entry("layer.input_quantizer", kind, 32)
    assert found["quantizer_name"] == "layer.input_quantizer"
    assert found["cfg"].get("backend_extra_args") == ({"block": 32} if kind == "fp8_blocks" else None)
    found["cfg"]["num_bits"] = 0
    assert quantizers.INPUT_QUANTIZERS[kind]["num_bits"] == (4, 3), "a copy"


def test_inputs_that_are_not_rounded_have_no_settings() -> None:
    found = quantizers.input_entry("layer.input_quantizer", "none", None)
    assert found == {"quantizer_name": "layer.input_quantizer", "enable": False}


def test_of_several_entries_the_last_counts() -> None:
    entries = [
        {"quantizer_name": "a", "enable": False},
        {"quantizer_name": "a", "cfg": 1},
        {"quantizer_name": "a", "parent_class": "nn.Embedding", "enable": False},
        {"quantizer_name": "b", "cfg": 2},
    ]
    assert quantizers.entry_of({"quant_cfg": entries}, "a") is entries[1]
    with pytest.raises(IndexError):
        quantizers.entry_of({"quant_cfg": entries}, "c")


def test_square_blocks_round_inputs_but_of_the_output_layer() -> None:
    """Exceptions come after the entries about all layers, and of two entries the later counts."""
    settings = quantizers.recipe_settings(QuantizeConfig(format="fp8_pb_wo", block_size=32, kv_cache="fp8"))
    names = [entry["quantizer_name"] for entry in settings["quant_cfg"]]
    assert names.index("*input_quantizer") < names.index("*lm_head*")
    inputs = quantizers.entry_of(settings, "*input_quantizer")
    assert inputs["cfg"]["backend_extra_args"] == {"block": 32} and "enable" not in inputs
    blocks = quantizers.entry_of(settings, "*weight_quantizer")["cfg"]["block_sizes"]
    assert (blocks[-1], blocks[-2]) == (32, 32)
    assert names[-1] == quantizers.KV_QUANTIZERS
    assert names.count("*input_quantizer") == 1


def test_a_mix_has_each_layer_s_format() -> None:
    settings = quantizers.mixed_settings({"a": "nvfp4", "b": "fp8"})
    assert settings["quant_cfg"][0] == {"quantizer_name": "*", "enable": False}
    found = {entry["quantizer_name"]: entry["cfg"]["num_bits"] for entry in settings["quant_cfg"][1:]}
    kinds = ("weight_quantizer", "input_quantizer")
    assert found == {f"{layer}.{kind}": bits for layer, bits in (("a", (2, 1)), ("b", (4, 3))) for kind in kinds}


def test_square_blocks_of_inputs_have_scales_of_their_own() -> None:
    block = SimpleNamespace(backend_extra_args={"block": 2}, _pass_through_bwd=True)
    inputs = torch.tensor([[448.0, 17.0, 1.0, 0.3]])
    found = quantizers._fp8_blocks(inputs, block)
    expected = (torch.tensor([0.3]) * 448).to(torch.float8_e4m3fn).float() / 448
    assert found.tolist() == [[448.0, pytest.approx(16.0, abs=2), 1.0, pytest.approx(float(expected), rel=1e-6)]]


@pytest.mark.parametrize(
    ("calibrator", "expected"),
    [
        ("awq_lite", {"method": "awq_lite", "alpha_step": 0.1}),
        ("awq_full", {"method": "awq_full", "alpha_step": 0.1}),
        ("awq_clip", "awq_clip"),
        ("mse", "mse"),
    ],
)
def test_calibrators_have_their_presets_steps(calibrator: Any, expected: Any) -> None:
    assert quantizers.algorithm(calibrator) == expected
