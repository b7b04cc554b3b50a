"""What of a calibration is refused or mended before the export, and what is mended in the files after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.quantization import export


def test_fused_layers_share_their_scales(made: Callable[[str], Any]) -> None:
    tensors = load_file(made("fp8")[0] / "model.safetensors")
    layer = "model.layers.0"
    for group in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj")):
        for part in ("weight_scale", "input_scale"):
            assert len({float(tensors[f"{layer}.{name}.{part}"]) for name in group}) == 1
    scales = {float(tensors[f"{layer}.self_attn.{name}.weight_scale"]) for name in ("q_proj", "o_proj")}
    assert len(scales) == 2


def test_experts_have_the_names_of_files_and_routers_are_listed(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.experts.1.w1"
    stored = name.replace("mlp", "block_sparse_moe")
    for file, place, key in export.LISTS:
        content = {place: {key: ["lm_head", name], "quantized_layers": {name: {"quant_algo": "FP8"}}}}
        (tmp_path / file).write_text(json.dumps(content))
    save_file({f"{name}.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"{name}.weight": "model.safetensors"}}))
    config = SimpleNamespace(to_dict=lambda: {"model_type": "mixtral"})
    model: Any = SimpleNamespace(config=config, model=SimpleNamespace(layers=[None] * 2))
    export._name_experts(tmp_path, model)
    routers = [f"model.layers.{number}.block_sparse_moe.gate" for number in range(2)]
    for file, place, key in export.LISTS:
        written = json.loads((tmp_path / file).read_text())[place]
        assert written[key] == ["lm_head", stored, *routers]
        assert written["quantized_layers"] == {stored: {"quant_algo": "FP8"}}
    assert list(load_file(tmp_path / "model.safetensors")) == [f"{stored}.weight"]
    assert json.loads(index.read_text())["weight_map"] == {f"{stored}.weight": "model.safetensors"}


def test_embeddings_are_no_layers_of_engines(tmp_path: Path) -> None:
    for file, place, key in export.LISTS:
        (tmp_path / file).write_text(json.dumps({place: {key: ["lm_head", "model.embed"]}}))
    model: Any = torch.nn.ModuleDict(
        {"model": torch.nn.ModuleDict({"embed": torch.nn.Embedding(2, 2)}), "lm_head": torch.nn.Linear(2, 2)}
    )
    export._leave_out_embeddings(tmp_path, model)
    for file, place, key in export.LISTS:
        assert json.loads((tmp_path / file).read_text())[place][key] == ["lm_head"]


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


@pytest.mark.parametrize(
    ("algorithm", "shape", "stored"),
    [
        ("fp8_pb_wo", (), (1, 1, 1, 1)),
        ("fp8_pb_wo", (2, 1, 2, 1), (2, 1, 2, 1)),
        ("FP8", (), ()),
    ],
)
def test_the_scale_of_one_square_has_four_axes(
    algorithm: str, shape: tuple[int, ...], stored: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelopt.torch.export import unified_export_hf as theirs

    def own(*_: Any) -> torch.Tensor:
        return torch.ones(shape)

    monkeypatch.setattr(theirs, "get_weight_scaling_factor", own)
    monkeypatch.setattr(export, "algorithm_of", lambda _: algorithm)
    with export._grids_of_scales():
        assert theirs.get_weight_scaling_factor("layer").shape == stored
    assert theirs.get_weight_scaling_factor is own
