"""The settings of quantizers for formats, mixes, inputs and caches, and blocks of inputs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.stages.quantize import QuantizeConfig
from jobs.quantization import nvfp4_cpu, quantizers


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


def test_a_mix_and_a_cache_make_a_recipe() -> None:
    config = QuantizeConfig.model_validate(
        {"auto": {"effective_bits": 6, "formats": ["nvfp4", "fp8"]}, "kv_cache": "fp8"}
    )
    *mixed, cache = quantizers.recipe_settings(config, {"a": "nvfp4"})["quant_cfg"]
    assert mixed == quantizers.mixed_settings({"a": "nvfp4"})["quant_cfg"] and len(mixed) == 3
    assert cache == quantizers.cache_entry("fp8")


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


FP8 = torch.float8_e4m3fn
INPUTS = torch.randn(6, 32, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 1, 6)[:, None]
LARGEST = INPUTS.abs().amax()


def by_fp8(values: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    return (values / largest * 448).to(FP8).float() * largest / 448


ROUNDED = {
    "fp8": by_fp8(INPUTS, LARGEST),
    "fp8_token": by_fp8(INPUTS, INPUTS.abs().amax(1, keepdim=True)),
    "int8": (INPUTS / LARGEST * 127).round() * LARGEST / 127,
    "nvfp4": nvfp4_cpu.fake_quantize(INPUTS, LARGEST),
    "fp8_blocks": by_fp8(INPUTS.view(6, 4, 8), INPUTS.view(6, 4, 8).abs().amax(2, keepdim=True)).flatten(1),
    "none": INPUTS,
}


@pytest.mark.parametrize("kind", ROUNDED)
def test_inputs_are_rounded_as_their_kind_says(kind: Any) -> None:
    """Before a layer that gives back its inputs; another layer is left alone."""
    quantizers.prepare()
    model: Any = torch.nn.ModuleDict({name: torch.nn.Linear(32, 32, bias=False) for name in ("a", "b")})
    for layer in model.values():
        layer.weight.data = torch.eye(32)
    quantizers.simulate_inputs(model, {"a": (kind, 8)}, None)
    if kind in ("fp8", "int8", "nvfp4"):
        model["a"].input_quantizer.amax = LARGEST
    with torch.no_grad():
        torch.testing.assert_close(model["a"](INPUTS), ROUNDED[kind], rtol=1e-5, atol=1e-6)
        assert torch.equal(model["b"](INPUTS), INPUTS)


def test_a_bias_is_taken_off_before_nvfp4_and_put_back() -> None:
    quantizers.prepare()
    bias, largest = torch.tensor(3.0), torch.tensor(4.0)
    found = quantizers._affine(INPUTS, SimpleNamespace(_bias_value=bias, _amax=largest))
    torch.testing.assert_close(found, nvfp4_cpu.fake_quantize(INPUTS - bias, largest) + bias)


@pytest.mark.parametrize(("name", "searched"), [("nvfp4", True), ("fp8", False)])
def test_mse_searches_the_scales_of_blocks_alone(name: Any, searched: bool) -> None:
    settings = quantizers.recipe_settings(QuantizeConfig(format=name, calibrator="mse"))
    assert settings["algorithm"] == ({"method": "mse", "fp8_scale_sweep": True} if searched else "mse")
    sizes = quantizers.entry_of(settings, "*weight_quantizer")["cfg"].get("block_sizes")
    assert (sizes or {}).get("type") == ("static" if searched else None)
    inputs = quantizers.entry_of(settings, "*input_quantizer")["cfg"].get("block_sizes", {})
    assert inputs.get("type") == ("dynamic" if searched else None), "those of inputs stay"
    plain = quantizers.recipe_settings(QuantizeConfig(format=name))
    assert plain["algorithm"] == "max" and plain["quant_cfg"] == quantizers.format_settings(name)["quant_cfg"]


@pytest.mark.parametrize("kind", ["fp8", "nvfp4", "nvfp4_affine"])
def test_a_cache_of_nvfp4_with_a_bias_is_ours(kind: Any) -> None:
    found = quantizers.cache_entry(kind)["cfg"].get("backend")
    assert found == (quantizers.AFFINE if kind == "nvfp4_affine" else None)
