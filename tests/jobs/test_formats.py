"""Every format of quantization: which combinations are refused at load, and that each checkpoint means what its
definition says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from conf.contract import record
from conf.engines.verdict import verdicts
from conf.formats import FORMATS, Widths, kv_misfit, misfit
from conf.stages.quantize import QuantizeConfig
from tests.fixtures.jobs import run_job
from tests.jobs.test_quantize import SIZES, make, models  # noqa: F401 - a fixture

CASES: dict[str, dict[str, Any]] = {
    "fp8_pc_pt": {},
    "fp8_pb_wo": {"block_size": 32},
    "fp8_pb_wo-mse": {"block_size": 16},
    "int8_sq": {},
    "int8_sq-mse": {},
    "int4_awq": {"block_size": 32},
    "int4_awq-awq_clip": {"block_size": 16},
    "int4_awq-awq_full": {"block_size": 16},
    "w4a8_awq": {"block_size": 32},
    "w4a8_awq-awq_clip": {"block_size": 16},
    "nvfp4": {},
    "nvfp4-mse": {},
    "nvfp4_omlp_only-mse": {},
    "nvfp4-awq_lite": {},
    "nvfp4-awq_clip": {},
    "nvfp4-awq_full": {},
    "nvfp4_mlp_only": {},
    "nvfp4_omlp_only-awq_lite": {},
    "w4a8_nvfp4_fp8": {},
    "fp8-mse": {},
    "fp8-kv_fp8": {},
    "fp8-kv_nvfp4": {},
    "nvfp4-kv_nvfp4_affine": {},
    "int4_awq-kv_fp8": {"block_size": 16},
}
SELDOM = ("fp8_pb_wo-mse", "int8_sq-mse", "int4_awq-awq_clip", "w4a8_awq-awq_clip", "nvfp4_omlp_only-mse")
SELDOM += ("nvfp4-awq_clip", "fp8-mse", "nvfp4_mlp_only", "fp8-kv_nvfp4")
"""Pairs of a format and a way to scale that other cases have each: drills."""
EACH = [pytest.param(name, marks=pytest.mark.drill if name in SELDOM else ()) for name in CASES]
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
OUTPUTS_DB = {"fp8": 25, "int8": 25, "nvfp4": 14, "int4": 16, "w4a8": 16}
"""Signal to noise that outputs of a random layer keep at least in each family: about 6 dB a bit of mantissa."""


def config_of(name: str) -> dict[str, Any]:
    """The config whose name is `name`."""
    form, *rest = name.split("-")
    config = {"format": form, "calibration_samples": 12, "seq_length": 64, "batch": 5} | CASES[name]
    for part in rest:
        config |= {"kv_cache": part.removeprefix("kv_")} if part.startswith("kv_") else {"calibrator": part}
    return config


@pytest.fixture(scope="session")
def made(corpus: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a checkpoint when it is first asked for; the job itself refuses one whose weights or logits are not those
    calibrated."""
    known: dict[tuple[str, str], Path] = {}

    def make_once(name: str, kind: str = "qwen3") -> Path:
        if (name, kind) not in known:
            output = tmp_path_factory.mktemp("formats") / f"{kind}-{name}"
            known[name, kind] = run_job("quantize", config_of(name), {"model": models[kind], "data": corpus}, output)
        return known[name, kind]

    return make_once


def unpack(tensors: dict[str, torch.Tensor], layer: str, algorithm: str) -> torch.Tensor:
    """The weight of a layer by the formats' definitions, written without ModelOpt, with its smoothing taken back."""
    weight, scale = tensors[f"{layer}.weight"], tensors[f"{layer}.weight_scale"].float()
    if algorithm in ("NVFP4", "NVFP4_AWQ", "W4A8_NVFP4_FP8"):
        codes = torch.stack([weight & 0x0F, weight >> 4], dim=-1).flatten(1)
        blocks = E2M1[codes.long()].unflatten(1, (scale.shape[1], -1))
        values = (blocks * (scale * tensors[f"{layer}.weight_scale_2"])[..., None]).flatten(1)
    elif algorithm in ("W4A16_AWQ", "W4A8_AWQ"):
        codes = torch.stack([weight & 0x0F, weight >> 4], dim=1).flatten(0, 1).int()
        codes = codes - 16 * (codes > 7).int()
        values = (codes.unflatten(1, (scale.shape[1], -1)) * scale[..., None]).flatten(1)
    elif algorithm == "fp8_pb_wo":
        side = round((weight.numel() / scale.numel()) ** 0.5)
        grid = scale.reshape(weight.shape[0] // side, weight.shape[1] // side)
        values = weight.float() * torch.kron(grid, torch.ones(side, side))
    else:
        values = weight.float() * (scale[:, None] if scale.dim() else scale)
    return values * tensors.get(f"{layer}.pre_quant_scale", torch.ones(1)).float()


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_stored_weights_are_within_the_format_s_steps(made: Any, models: Any, name: str) -> None:
    output = made(name)
    record = json.loads((output / "quantize.json").read_text())
    tensors, source = (
        load_file(output / "model" / "model.safetensors"),
        load_file(models["qwen3"] / "model" / "model.safetensors"),
    )
    assert record["format"] == name
    floor = next(value for family, value in OUTPUTS_DB.items() if name.startswith(family))
    for layer, measured in record["layers"].items():
        assert (measured["samples"], measured["tokens"]) == (12, 12 * 64)
        assert measured["outputs_db"] > floor and measured["weights_db"] > floor
        assert torch.isfinite(unpack(tensors, layer, measured["format"])).all()
    # Before o_proj and down_proj there is no norm to move the smoothing into: their weights are the source's.
    checked = [layer for layer in record["layers"] if layer.endswith(("o_proj", "down_proj"))]
    for layer in checked:
        if record["layers"][layer]["format"] == "NVFP4_AWQ" and f"{layer}.pre_quant_scale" not in tensors:
            continue  # moved into the layer before
        original = source[f"{layer}.weight"].float()
        noise = (unpack(tensors, layer, record["layers"][layer]["format"]) - original).square().sum()
        assert 10 * torch.log10(original.square().sum() / noise) > floor, layer
    assert len(checked) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8_sq", "int4_awq", "nvfp4-awq_lite", "fp8_pb_wo", "nvfp4-kv_nvfp4_affine"])
def test_the_other_architecture_is_exact_too(made: Any, name: str) -> None:
    verified = json.loads((made(name, "llama") / "quantize.json").read_text())["verified"]
    assert verified == {"tensors": verified["tensors"], "weights_equal": True, "logits_equal": True}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"), [("fp8-kv_fp8", "FP8"), ("fp8-kv_nvfp4", "NVFP4"), ("nvfp4-kv_nvfp4_affine", "NVFP4_AFFINE")]
)
def test_key_value_cache_is_stored_and_simulated(made: Any, corpus: Path, tmp_path: Path, name: str, kind: str) -> None:
    from jobs.quantization import checkpoint as quantized
    from jobs.tokens.windows import Windows

    output = made(name)
    settings = json.loads((output / "model" / "hf_quant_config.json").read_text())["quantization"]
    assert settings["kv_cache_quant_algo"] == kind
    record = json.loads((output / "quantize.json").read_text())
    assert len(record["kv_cache"]) == 4 and all(counts["tokens"] == 12 * 64 for counts in record["kv_cache"].values())
    tensors = load_file(output / "model" / "model.safetensors")
    keys = [tensor for tensor in tensors if tensor.endswith("k_scale")]
    assert len(keys) == 2
    assert any(tensor.endswith("v_bias") for tensor in tensors) == (kind == "NVFP4_AFFINE")
    tokens = torch.from_numpy(Windows(corpus / "test", 32).tokens_at(range(2)))[:, :-1]
    model = quantized.load(output / "model", torch.bfloat16)
    with torch.inference_mode():
        simulated = model(tokens, use_cache=False).logits
        for module in model.modules():
            if hasattr(module, "k_bmm_quantizer"):
                module.k_bmm_quantizer.disable()
        assert not torch.equal(simulated, model(tokens, use_cache=False).logits)
    damaged = tmp_path / "model"
    damaged.mkdir()
    for file in (output / "model").iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    tensors.pop(keys[0])
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"has no valid scale of model\.layers\.0\.self_attn's k cache"):
        quantized.load(damaged, torch.bfloat16)


@pytest.mark.slow
def test_nvfp4_around_a_bias_is_the_plain_formula(made: Any) -> None:
    from jobs.quantization import checkpoint as quantized
    from jobs.quantization import nvfp4_cpu

    model = quantized.load(made("nvfp4-kv_nvfp4_affine") / "model", torch.bfloat16)
    quantizer = model.model.layers[0].self_attn.v_bmm_quantizer
    torch.manual_seed(3)
    values = torch.randn(2, 2, 5, 16, dtype=torch.bfloat16)
    bias = quantizer._bias_value
    assert bias.shape == (1, 2, 1, 16)
    assert torch.equal(quantizer(values), nvfp4_cpu.fake_quantize(values - bias, quantizer.amax) + bias)


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_the_tensors_are_judged_as_the_recipe_was(made: Any, name: str) -> None:
    """What plan tells before is what quantize.json tells of the very tensors."""
    config = QuantizeConfig(**config_of(name))
    assert json.loads((made(name) / "quantize.json").read_text())["engines"] == record(verdicts(config.contents))


@pytest.mark.slow
def test_inputs_of_square_blocks_are_rounded_per_block_of_a_toke(made: Any) -> None:
    from jobs.quantization import checkpoint as quantized

    model = quantized.load(made("fp8_pb_wo") / "model", torch.bfloat16)
    quantizer = model.model.layers[0].mlp.down_proj.input_quantizer
    torch.manual_seed(3)
    for shape in ((2, 5, 96), (1, 1, 96)):  # prompts and single tokens, in one model
        values = torch.randn(shape, dtype=torch.bfloat16) * torch.logspace(-3, 3, 96, dtype=torch.bfloat16)
        values[..., :32] = 0
        blocks = values.float().unflatten(-1, (-1, 32))
        scale = blocks.abs().amax(-1, keepdim=True) / 448
        codes = (blocks / scale.where(scale > 0, torch.ones(()))).to(torch.float8_e4m3fn).float()
        expected = (codes * scale).flatten(-2)
        differing = (quantizer(values).float() - expected).abs() > expected.abs() * 2**-8
        assert differing.float().mean() < 0.03  # ties that ModelOpt's reciprocal rounds the other way
        assert not torch.equal(quantizer(values), values)


@pytest.mark.slow
def test_a_matrix_of_one_square_has_a_scale_with_four_axes(corpus: Path, tmp_path: Path) -> None:
    """Engines narrow the scales of fused layers along their first axis, which a single number lacks."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from jobs.huggingface import tokenizer

    vocabulary = {"vocab_size": tokenizer.vocab_size(corpus / "tokenizer")}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES | vocabulary | heads | {"hidden_size": 16, "intermediate_size": 32}))
    model.save_pretrained(tmp_path / "one" / "model")
    tokenizer.copy_files(corpus / "tokenizer", tmp_path / "one" / "model")
    config = {"format": "fp8_pb_wo", "block_size": 16, "calibration_samples": 4, "seq_length": 64}
    output = run_job("quantize", config, {"model": tmp_path / "one", "data": corpus}, tmp_path / "out")
    tensors = load_file(output / "model" / "model.safetensors")
    shapes = {name.split(".")[-2]: tensor.shape for name, tensor in tensors.items() if name.endswith("weight_scale")}
    assert {tuple(shapes[f"{part}_proj"]) for part in "qkvo"} == {(1, 1, 1, 1)}
    assert tuple(shapes["gate_proj"]) == (2, 1, 1, 1) and tuple(shapes["down_proj"]) == (1, 1, 2, 1)


@pytest.mark.slow
def test_searched_scales_of_blocks_are_nearer(made: Any) -> None:
    plain, searched = (
        json.loads((made(name) / "quantize.json").read_text())["layers"] for name in ("nvfp4", "nvfp4-mse")
    )
    gains = [searched[name]["weights_db"] - plain[name]["weights_db"] for name in plain]
    assert min(gains) > 0.2, "the export wrote scales recomputed from the weights"


@pytest.mark.slow
def test_finer_formats_change_the_loss_less(made: Any) -> None:
    def worst(name: str) -> float:
        return min(
            layer["outputs_db"] for layer in json.loads((made(name) / "quantize.json").read_text())["layers"].values()
        )

    assert worst("int8_sq") > worst("fp8_pc_pt") > worst("int4_awq-awq_full") > worst("nvfp4-awq_lite")
    assert worst("fp8_pb_wo-mse") > worst("int4_awq")


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "searched scales that the export drops": (
        {"format": "w4a8_nvfp4_fp8", "calibrator": "mse"},
        ("quantize.calibrator is mse", "exports this format's one scale"),
    ),
    "smoothing by channel of blocks": (
        {"format": "nvfp4", "calibrator": "smoothquant"},
        ("smooths per channel", "choose max or mse or awq_lite"),
    ),
    "awq without blocks": (
        {"format": "int8_sq", "calibrator": "awq_lite"},
        ("weights in blocks", "choose smoothquant or max or mse"),
    ),
    "max of int4": ({"format": "int4_awq", "calibrator": "max"}, ("int4_awq", "choose awq_lite")),
    "blocks of a format that has none": (
        {"format": "fp8", "block_size": 16},
        ("block_size is 16", "fp8 has no blocks", "int4_awq"),
    ),
    "other blocks than nvfp4's": ({"format": "nvfp4", "block_size": 32}, ("nvfp4 has fixed blocks of 16",)),
    "an odd block": ({"format": "int4_awq", "block_size": 48}, ("block_size is 48", "16, 32, 64, 128")),
    "a cache of int8": ({"format": "fp8", "kv_cache": "int8"}, ("kv_cache",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unexportable_combinations_are_refused(case: str) -> None:
    values, parts = REFUSED[case]
    with pytest.raises(ValidationError) as error:
        QuantizeConfig(**values)
    for part in parts:
        assert part in str(error.value)


def test_names_show_deviations_from_the_format() -> None:
    assert QuantizeConfig(format="nvfp4", calibrator="awq_lite", kv_cache="fp8").name == "nvfp4-awq_lite-kv_fp8"
    assert [QuantizeConfig(format=name).name for name in FORMATS] == list(FORMATS)
    assert QuantizeConfig(format="int8_sq").method == "smoothquant"


def test_widths_are_checked_where_the_format_packs_them() -> None:
    widths = Widths(
        hidden=("hidden", 64), ffn=("ffn", 172), heads=("heads", 64), kv=("kv", 32), head_dim=("head_dim", 8)
    )
    assert misfit("fp8", None, widths) is None
    assert misfit("nvfp4", None, widths) == ("ffn", 172, 16, "the block size of nvfp4")
    assert misfit("int4_awq", None, widths) == ("hidden", 64, 128, "the block size of int4_awq")
    assert misfit("fp8_pb_wo", 64, Widths(**{**vars(widths), "ffn": ("ffn", 128)})) == (
        "kv",
        32,
        64,
        "the block size of fp8_pb_wo",
    )
    assert kv_misfit("nvfp4", widths) == ("head_dim", 8, 16, "the block size of the nvfp4 KV cache")
    assert kv_misfit("fp8", widths) is None
