"""What is read of a checkpoint, and which ones are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.quantization import checkpoint

UP, KEY = "model.layers.0.mlp.up_proj", "model.layers.0.self_attn.k_proj.k_scale"
BOTH = (("config.json", "quantization_config"), ("hf_quant_config.json", "quantization"))


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def settings(folder: Path, file: str, key: str, **values: Any) -> None:
    content = json.loads((folder / file).read_text())
    content[key] |= values
    (folder / file).write_text(json.dumps(content))


def test_input_scales_cover_what_calibration_saw(made: Callable[[str], Any]) -> None:
    folder, _ = made("fp8")
    scale = load_file(folder / "model.safetensors")["model.layers.0.mlp.gate_proj.input_scale"]
    model = checkpoint.load(folder, torch.bfloat16)
    quantizer: Any = model.get_submodule("model.layers.0.mlp.gate_proj").input_quantizer
    assert float(quantizer.amax) == pytest.approx(float(scale) * 448)
    assert model.get_submodule("model.layers.0.self_attn").k_bmm_quantizer.is_enabled
    without = checkpoint.load(folder, torch.bfloat16, cache=False)
    assert not without.get_submodule("model.layers.0.self_attn").k_bmm_quantizer.is_enabled


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop(f"{UP}.input_scale"), "lacks the tensor .*input_scale"),
        (lambda tensors: tensors.pop(f"{UP}.weight"), "lacks the tensor .*up_proj.weight"),
        (lambda tensors: tensors[f"{UP}.weight_scale"].fill_(0), "weight_scale is not finite and positive"),
        (lambda tensors: [tensors.pop(name) for name in list(tensors) if "weight_scale" in name], "holds no scales"),
    ],
)
def test_broken_tensors_are_refused(change: Any, words: str, copied: Callable[[str], Path]) -> None:
    folder = copied("fp8")
    edit(folder, change)
    with pytest.raises(ValueError, match=words):
        checkpoint.read(folder)


@pytest.mark.parametrize(("name", "value"), [("fp8", 0.0), ("fp8", -1.0), ("fp8", torch.inf), ("nvfp4_affine", None)])
def test_a_cache_without_a_scale_is_refused(name: str, value: float | None, copied: Callable[[str], Path]) -> None:
    folder = copied("fp8" if name == "fp8" else "nvfp4")
    if value is None:
        edit(folder, lambda tensors: tensors.pop(KEY.replace("k_scale", "k_bias")))
    else:
        edit(folder, lambda tensors: tensors[KEY].fill_(value))
    with pytest.raises(ValueError, match=r"has no valid scale of .*self_attn's k cache"):
        checkpoint.load(folder, torch.bfloat16)


def test_settings_that_disagree_are_refused(copied: Callable[[str], Path]) -> None:
    folder = copied("fp8")
    settings(folder, *BOTH[1], exclude_modules=["lm_head", "other"])
    with pytest.raises(ValueError, match="disagree; quantize the model again"):
        checkpoint.read(folder)
    settings(folder, *BOTH[1], exclude_modules=["lm_head"], quant_algo="NVFP4")
    with pytest.raises(ValueError, match="disagree; quantize the model again"):
        checkpoint.read(folder)


def test_other_formats_are_not_simulated(copied: Callable[[str], Path]) -> None:
    folder = copied("fp8")
    settings(folder, *BOTH[1], kv_cache_quant_algo="INT8")
    with pytest.raises(ValueError, match="has a key-value cache of INT8; only fp8, nvfp4"):
        checkpoint.read(folder)
    settings(folder, *BOTH[1], kv_cache_quant_algo=None)
    assert checkpoint.read(folder).kv is None
    settings(folder, *BOTH[1], quantized_layers={"a": {"quant_algo": "FP7"}})
    with pytest.raises(ValueError, match="a is quantized by FP7, which cannot be simulated"):
        checkpoint.read(folder)
    for given in ({"quant_method": "gptq"}, {"quant_method": "modelopt", "quant_algo": "FP7"}):
        settings(folder, *BOTH[0], **given)
        with pytest.raises(ValueError, match=r"only ModelOpt's .* can be simulated"):
            checkpoint.read(folder)


def test_an_excluded_layer_must_not_be_quantized(copied: Callable[[str], Path]) -> None:
    folder = copied("fp8")
    settings(folder, *BOTH[0], ignore=["lm_head", "*.up_proj"])
    settings(folder, *BOTH[1], exclude_modules=["lm_head", "*.up_proj"])
    with pytest.raises(ValueError, match=r"excludes \*\.up_proj from quantization but .*up_proj is quantized"):
        checkpoint.read(folder)


@pytest.mark.parametrize(
    ("weights", "scales", "side"),
    [((4, 8), (2, 4), 2), ((4, 8), (1, 2), 4), ((4, 8), (1, 1), None), ((3, 3), (1, 1), 3)],
)
def test_squares_are_counted(weights: tuple[int, int], scales: tuple[int, int], side: int | None) -> None:
    parts = {"weight": torch.zeros(weights), "weight_scale": torch.zeros(scales)}
    assert checkpoint._block("fp8_pb_wo", parts, {"group_size": 7}) == side
    assert checkpoint._block("NVFP4", parts, {"group_size": "16"}) == 16
    assert checkpoint._block("FP8", parts, {}) is None
