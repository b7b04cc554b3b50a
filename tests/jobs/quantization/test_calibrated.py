"""What of a calibration is refused or mended before the export, with quantizers made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.stages.quantize import QuantizeConfig
from jobs.quantization import export, quantizers


def quantizer(amax: Any, enabled: bool = True, dynamic: bool = False) -> Any:
    values = {} if amax is None else {"_amax": torch.tensor(amax, dtype=torch.bfloat16)}
    return SimpleNamespace(is_enabled=enabled, _dynamic=dynamic, **values)


def layer(weight: Any = 2.0, inputs: Any = 3.0, **how: bool) -> Any:
    return SimpleNamespace(weight_quantizer=quantizer(weight), input_quantizer=quantizer(inputs, **how))


MODEL: Any = torch.nn.Module()


def test_calibrated_magnitudes_become_fp32() -> None:
    one = layer()
    export.check_calibrated(MODEL, {"a": one})
    assert one.weight_quantizer._amax.dtype == torch.float32 and one.weight_quantizer._amax == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weight": None}, "calibration never reached the weights of a; raise"),
        ({"inputs": None}, "calibration never reached the inputs of a; raise"),
        ({"inputs": torch.inf}, "the largest magnitude of the inputs of a is inf"),
        ({"weight": [1.0, torch.nan]}, "the largest magnitude of the weights of a is nan"),
        ({"weight": [1.0, -1.0]}, "the largest magnitude of the weights of a is 1"),
    ],
)
def test_uncalibrated_quantizers_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        export.check_calibrated(MODEL, {"a": layer(**given)})


@pytest.mark.parametrize("how", [{"enabled": False}, {"dynamic": True}])
def test_inputs_without_a_stored_scale_need_no_data(how: dict[str, bool]) -> None:
    export.check_calibrated(MODEL, {"a": layer(inputs=None, **how)})


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="the model has no linear layer that can be quantized"):
        export.check_calibrated(MODEL, {})


def test_zeros_get_a_scale(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = layer([0.0, 0.0]), layer([0.0, 4.0])
    export.check_calibrated(MODEL, {"a": one, "b": other})
    assert one.weight_quantizer._amax.tolist() == [1, 1] and other.weight_quantizer._amax.tolist() == [0, 4]
    told = "1 of 4 quantizers saw only zeros, for example the weights of a; their scale is 1\n"
    assert capsys.readouterr().out == told


def test_magnitudes_are_rounded_until_scales_give_them() -> None:
    one = quantizer(0.0)
    one._amax = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 10
    before = one._amax.clone()
    export._round_amax(one, 448.0)
    assert torch.equal(one._amax / 448.0 * 448.0, one._amax)
    torch.testing.assert_close(one._amax, before)


@pytest.mark.parametrize(
    ("name", "algorithm", "given", "ones"),
    [
        ("a.o_proj", "W4A16_AWQ", None, True),
        ("a.down_proj", "W4A8_AWQ", None, True),
        ("a.q_proj", "W4A16_AWQ", None, False),
        ("a.o_proj", "NVFP4_AWQ", None, False),
        ("a.o_proj", "W4A16_AWQ", 3.0, False),
    ],
)
def test_int4_has_a_smoothing_scale_where_it_is_read(
    name: str, algorithm: str, given: float | None, ones: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "algorithm_of", lambda layer: algorithm)
    scale = None if given is None else torch.tensor([given])
    one = SimpleNamespace(weight=torch.zeros(2, 3), input_quantizer=SimpleNamespace(pre_quant_scale=scale))
    export.complete_smoothing({name: one})
    found = one.input_quantizer.pre_quant_scale
    assert (found.tolist() == [1, 1, 1]) if ones else found is scale


def test_weight_quantizers_are_back_on_after_an_error() -> None:
    class Switch:
        on = True

        def enable(self) -> None:
            self.on = True

        def disable(self) -> None:
            self.on = False

    one = SimpleNamespace(weight_quantizer=Switch())
    with pytest.raises(RuntimeError, match="inside"), export.weights_as_they_are({"a": one}):
        assert not one.weight_quantizer.on
        raise RuntimeError("inside")
    assert one.weight_quantizer.on


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
