"""Tiny models calibrated, exported and read back in every format, without a job; broken checkpoints are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conf.stages.quantize import QuantizeConfig
from jobs import quantize
from jobs.quantization import checkpoint, export, verification
from tests.fixtures.families import random_model
from tests.jobs.test_families import SIZES
from tests.jobs.test_formats import unpack

SMALL = SIZES | {
    "num_hidden_layers": 1,
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
FORMATS: dict[str, dict[str, Any]] = {
    "fp8": {"kv_cache": "fp8"},
    "fp8_pb_wo": {"block_size": 16},
    "fp8_pc_pt": {},
    "nvfp4": {"kv_cache": "nvfp4_affine"},
    "nvfp4_mlp_only": {"calibrator": "awq_lite"},
    "int8_sq": {},
    "int4_awq": {"block_size": 16, "calibrator": "awq_clip"},
    "w4a8_awq": {"block_size": 16},
    "w4a8_nvfp4_fp8": {"kv_cache": "nvfp4"},
}
SAMPLES = np.random.default_rng(0).integers(0, 32, (5, 17))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """Makes a checkpoint when it is first asked for: its folder, and the entry of quantize.json."""
    source = tmp_path_factory.mktemp("source")
    random_model("qwen3", source, **SMALL)
    (source / "tokenizer.json").write_text("{}")
    known: dict[str, tuple[Path, dict[str, Any]]] = {}

    def make(name: str) -> tuple[Path, dict[str, Any]]:
        if name not in known:
            output = tmp_path_factory.mktemp(name)
            given = {"format": name, "calibration_samples": 5, "seq_length": 16, "batch": 2} | FORMATS[name]
            config = QuantizeConfig.model_validate(given)
            told = quantize._quantize(source, output, output, SAMPLES, config, None)
            known[name] = output / "model", told
        return known[name]

    return make


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_stored_and_read_back(name: str, made: Callable[[str], Any]) -> None:
    """The job's own comparison of weights and logits passes; what is read is what the definitions say."""
    folder, told = made(name)
    assert (told["samples"], told["tokens"]) == (5, 80)
    layers = 3 if name == "nvfp4_mlp_only" else 7
    assert told["quantized_layers"] == len(told["layers"]) == layers
    assert 0 < told["max_abs_error"] < 0.5
    for measured in (*told["layers"].values(), *told["kv_cache"].values()):
        assert (measured["samples"], measured["tokens"]) == (5, 80)
    assert all(measured["weights_db"] > 10 for measured in told["layers"].values())
    tensors = load_file(folder / "model.safetensors")
    for layer, packed in checkpoint.read(folder).layers.items():
        smoothing = tensors.get(f"{layer}.pre_quant_scale", torch.ones(1)).float()
        expected = unpack(tensors, layer, packed.algorithm) / smoothing
        bound = 0.07 if packed.algorithm == "W4A8_AWQ" else 1e-5  # whose kernel rounds to E4M3 besides
        assert (packed.dequantize(torch.float32) - expected).abs().max() <= bound * expected.abs().max()
    lines = [json.loads(line) for line in (folder.parent / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"], line["values"]["samples"]) for line in lines[-3:]] == [
        (1, 3, 2),
        (2, 3, 4),
        (3, 3, 5),
    ]


def test_fused_layers_share_their_scales(made: Callable[[str], Any]) -> None:
    tensors = load_file(made("fp8")[0] / "model.safetensors")
    layer = "model.layers.0"
    for group in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj")):
        for part in ("weight_scale", "input_scale"):
            assert len({float(tensors[f"{layer}.{name}.{part}"]) for name in group}) == 1
    scales = {float(tensors[f"{layer}.self_attn.{name}.weight_scale"]) for name in ("q_proj", "o_proj")}
    assert len(scales) == 2


def test_input_scales_cover_what_calibration_saw(made: Callable[[str], Any]) -> None:
    folder, _ = made("fp8")
    scale = load_file(folder / "model.safetensors")["model.layers.0.mlp.gate_proj.input_scale"]
    model = checkpoint.load(folder, torch.bfloat16)
    quantizer: Any = model.get_submodule("model.layers.0.mlp.gate_proj").input_quantizer
    assert float(quantizer.amax) == pytest.approx(float(scale) * 448)
    assert model.get_submodule("model.layers.0.self_attn").k_bmm_quantizer.is_enabled
    without = checkpoint.load(folder, torch.bfloat16, cache=False)
    assert not without.get_submodule("model.layers.0.self_attn").k_bmm_quantizer.is_enabled


@pytest.fixture
def copied(made: Callable[[str], Any], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a checkpoint to break."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(made(name)[0], tmp_path / name))

    return copy


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def settings(folder: Path, file: str, key: str, **values: Any) -> None:
    content = json.loads((folder / file).read_text())
    content[key] |= values
    (folder / file).write_text(json.dumps(content))


UP, KEY = "model.layers.0.mlp.up_proj", "model.layers.0.self_attn.k_proj.k_scale"
BOTH = (("config.json", "quantization_config"), ("hf_quant_config.json", "quantization"))


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


def test_a_difference_from_the_calibrated_is_found(made: Callable[[str], Any]) -> None:
    folder, _ = made("fp8")
    read = checkpoint.read(folder)
    reference = {f"{name}.weight": packed.dequantize(torch.bfloat16) for name, packed in read.layers.items()}
    reference |= read.plain
    verification.verify(folder, reference, set(read.layers), {"lm_head"})
    with pytest.raises(RuntimeError, match=r"does not list model\.norm as unquantized"):
        verification.verify(folder, reference, set(read.layers), {"lm_head", "model.norm"})
    with pytest.raises(RuntimeError, match=f"quantizes other layers than those calibrated: {UP}"):
        verification.verify(folder, reference, set(read.layers) - {UP}, set())
    with pytest.raises(RuntimeError, match=r"lacks or adds tensor model\.norm\.weight"):
        less = {name: tensor for name, tensor in reference.items() if name != "model.norm.weight"}
        verification.verify(folder, less, set(read.layers), set())
    for name in (f"{UP}.weight", "model.norm.weight"):
        other = reference | {name: reference[name] * 2}
        with pytest.raises(RuntimeError, match=f"{name} differs from the calibrated model"):
            verification.verify(folder, other, set(read.layers), set())
    tokens = torch.from_numpy(SAMPLES[:1, :-1])
    with torch.inference_mode():
        logits = checkpoint.load(folder, torch.bfloat16)(tokens, use_cache=False).logits
    verification.verify_logits(folder, tokens, logits)
    other = logits.clone()
    other[0, 3, 5] += 8
    worst = float(other[0, 3, 5]) - float(logits[0, 3, 5])
    with pytest.raises(RuntimeError, match=f"differ by up to {worst:g} from the calibrated"):
        verification.verify_logits(folder, tokens, other)


@pytest.mark.parametrize(
    ("weights", "scales", "side"),
    [((4, 8), (2, 4), 2), ((4, 8), (1, 2), 4), ((4, 8), (1, 1), None), ((3, 3), (1, 1), 3)],
)
def test_squares_are_counted(weights: tuple[int, int], scales: tuple[int, int], side: int | None) -> None:
    parts = {"weight": torch.zeros(weights), "weight_scale": torch.zeros(scales)}
    assert checkpoint._block("fp8_pb_wo", parts, {"group_size": 7}) == side
    assert checkpoint._block("NVFP4", parts, {"group_size": "16"}) == 16
    assert checkpoint._block("FP8", parts, {}) is None


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


def test_the_widths_of_a_config_are_told() -> None:
    given = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 6, "head_dim": 16}
    found = quantize.widths_of(given | {"model_type": "qwen3", "num_key_value_heads": 2})
    assert found.heads == ("heads", 96) and found.kv == ("num_key_value_heads x head_dim", 32)
    assert (found.hidden, found.ffn) == (("hidden_size", 64), ("intermediate_size", 96))
    assert found.head_dim == ("head_dim", 16)
    mixed = {"model_type": "qwen3_moe", "num_key_value_heads": 2, "num_experts": 4, "moe_intermediate_size": 12}
    assert quantize.widths_of(given | mixed).ffn == ("moe_intermediate_size", 12)
