"""The quantize stage: what it writes is what it calibrated, bit for bit, and damage to it does not go unseen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from jobs import quantize
from jobs.huggingface import model as hf
from jobs.huggingface import tokenizer
from jobs.quantization import checkpoint as quantized
from jobs.quantization import nvfp4_cpu, quantizers, verification
from jobs.tokens.windows import Windows
from tests.fixtures.jobs import refused, run_job

pytestmark = pytest.mark.slow
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
}
CONFIG = {"calibration_samples": 12, "seq_length": 64, "batch": 5}
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def make(path: Path, corpus: Path, kind: str, change: Callable[[torch.nn.Module], None] = lambda model: None) -> Path:
    """A tiny model with random weights as an earlier stage would leave it: in fp32 for llama (tied), in bf16 for
    qwen3."""
    torch.manual_seed(7)
    common = SIZES | {"vocab_size": tokenizer.vocab_size(corpus / "tokenizer")}
    if kind == "llama":
        model: Any = LlamaForCausalLM(LlamaConfig(**common, tie_word_embeddings=True))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**common, tie_word_embeddings=False)).to(torch.bfloat16)
    change(model)
    model.save_pretrained(path / "model")
    tokenizer.copy_files(corpus / "tokenizer", path / "model")
    return path


@pytest.fixture(scope="session")
def models(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A source model of each architecture."""
    return {kind: make(tmp_path_factory.mktemp("models") / kind, corpus, kind) for kind in ("llama", "qwen3")}


@pytest.fixture(scope="session")
def checkpoints(
    corpus: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    """Each source model in each format, made by the job."""
    folder = tmp_path_factory.mktemp("quantized")
    made = {}
    for kind, source in models.items():
        for name in ("fp8", "nvfp4"):
            output = folder / f"{kind}-{name}"
            leftover = output / "model" / "model-00001-of-00009.safetensors"  # of an attempt that was killed
            leftover.parent.mkdir(parents=True)
            leftover.write_bytes(b"half a shard")
            made[kind, name] = run_job("quantize", CONFIG | {"format": name}, {"model": source, "data": corpus}, output)
    return made


CASES = [(kind, name) for kind in ("llama", "qwen3") for name in ("fp8", "nvfp4")]


def unpack(tensors: dict[str, torch.Tensor], layer: str) -> torch.Tensor:
    """The weight of a layer by the formats' definitions, written without ModelOpt."""
    weight, scale = tensors[f"{layer}.weight"], tensors[f"{layer}.weight_scale"].float()
    if weight.dtype == torch.float8_e4m3fn:
        return weight.float() * scale
    codes = torch.stack([weight & 0x0F, weight >> 4], dim=-1).flatten(1)  # the low half of a byte is the first value
    blocks = E2M1[codes.long()].unflatten(1, (-1, 16))
    return (blocks * (scale * tensors[f"{layer}.weight_scale_2"])[..., None]).flatten(1)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_checkpoint_is_complete_and_close_to_its_source(
    models: Any, checkpoints: Any, kind: str, name: str
) -> None:
    output = checkpoints[kind, name]
    tensors = load_file(output / "model" / "model.safetensors")
    source = load_file(models[kind] / "model" / "model.safetensors")
    record = json.loads((output / "quantize.json").read_text())
    layers = [tensor.removesuffix(".weight") for tensor in source if tensor.endswith("_proj.weight")]
    parts = ["weight", "weight_scale", "input_scale"] + (["weight_scale_2"] if name == "nvfp4" else [])
    expected = {f"{layer}.{part}" for layer in layers for part in parts} | {
        t for t in source if not t.endswith("_proj.weight")
    }
    assert set(tensors) == expected
    assert (record["quantized_layers"], record["excluded_modules"], record["format"]) == (14, ["lm_head"], name)
    assert (record["samples"], record["tokens"]) == (12, 12 * 64)
    assert record["bytes_after"] == (output / "model" / "model.safetensors").stat().st_size < record["bytes_before"]
    worst = 0.0
    for layer in layers:
        original, written = source[f"{layer}.weight"].bfloat16().float(), unpack(tensors, layer)
        worst = max(worst, float((written.bfloat16().float() - original).abs().max()))
        # Half a step: 2^-4 of the value for E4M3; a sixth of the block's largest for E2M1, a little more where its
        # scale rounds.
        step = original.abs() * 2**-4 + original.abs().max() * 2**-9 if name == "fp8" else _block_max(original) * 0.2
        assert ((written - original).abs() <= step).all(), layer
    assert record["max_abs_error"] == worst > 0
    for tensor in source:
        if not tensor.endswith("_proj.weight"):
            assert torch.equal(tensors[tensor], source[tensor].bfloat16())
    assert not list((output / "model").glob("model-*"))


def _block_max(weight: torch.Tensor) -> torch.Tensor:
    return weight.abs().unflatten(1, (-1, 16)).amax(-1, keepdim=True).expand(-1, -1, 16).flatten(1)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_config_is_the_source_s_plus_quantization(models: Any, checkpoints: Any, kind: str, name: str) -> None:
    written = json.loads((checkpoints[kind, name] / "model" / "config.json").read_text())
    source = json.loads((models[kind] / "model" / "config.json").read_text())
    settings = written.pop("quantization_config")
    assert written.pop("torch_dtype") == "bfloat16"
    source.pop("dtype")
    assert written.pop("rope_theta") == source["rope_parameters"]["rope_theta"], "where transformers 4 looks for it"
    assert written == source
    assert (settings["quant_method"], settings["quant_algo"], settings["ignore"]) == (
        "modelopt",
        name.upper(),
        ["lm_head"],
    )
    listed = json.loads((checkpoints[kind, name] / "model" / "hf_quant_config.json").read_text())["quantization"]
    assert (listed["quant_algo"], listed["exclude_modules"]) == (name.upper(), ["lm_head"])
    generation = [path / "model" / "generation_config.json" for path in (models[kind], checkpoints[kind, name])]
    assert generation[0].read_bytes() == generation[1].read_bytes()
    same = tokenizer.fingerprint(models[kind] / "model")
    assert tokenizer.fingerprint(checkpoints[kind, name] / "model") == same


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_fused_layers_share_their_scales_as_engines_need(checkpoints: Any, kind: str, name: str) -> None:
    tensors = load_file(checkpoints[kind, name] / "model" / "model.safetensors")
    scale = "weight_scale" if name == "fp8" else "weight_scale_2"
    for group in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj")):
        for part in (scale, "input_scale"):
            assert len({float(tensors[f"model.layers.1.{layer}.{part}"]) for layer in group}) == 1


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_scales_are_those_of_modelopt_s_own_calibration(
    corpus: Path, models: Any, checkpoints: Any, kind: str, name: str
) -> None:
    import modelopt.torch.quantization as mtq

    quantizers.prepare()
    tokens = torch.from_numpy(Windows(corpus / "train", 64).tokens_at(range(12)))[:, :-1]
    model = hf.load_model(models[kind] / "model", torch.bfloat16)
    mtq.quantize(model, quantizers.format_settings(name), lambda model: model(tokens))
    tensors = load_file(checkpoints[kind, name] / "model" / "model.safetensors")
    for layer in ("model.layers.0.mlp.down_proj", "model.layers.1.self_attn.o_proj"):  # not fused with others
        module = model.get_submodule(layer)
        bound = 448.0 if name == "fp8" else 448.0 * 6
        assert float(tensors[f"{layer}.input_scale"]) == pytest.approx(
            float(module.input_quantizer.amax) / bound, rel=1e-6
        )
        calibrated = module.weight_quantizer(module.weight).float()
        differing = (unpack(tensors, layer).bfloat16().float() - calibrated).abs() > calibrated.abs() * 2**-7
        assert differing.float().mean() < 1e-3  # ties that ModelOpt's reciprocal rounds the other way


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_simulation_rounds_the_inputs_too(corpus: Path, checkpoints: Any, kind: str, name: str) -> None:
    model = quantized.load(checkpoints[kind, name] / "model", torch.bfloat16)
    tokens = torch.from_numpy(Windows(corpus / "test", 32).tokens_at(range(2)))[:, :-1]
    with torch.inference_mode():
        simulated = model(tokens).logits
        for module in model.modules():
            if hasattr(module, "input_quantizer"):
                module.input_quantizer.disable()
        assert not torch.equal(simulated, model(tokens).logits)


def copy(checkpoints: Any, name: str, tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor], set[str]]:
    """A checkpoint to damage, the calibrated model's parameters and its quantized layers."""
    target = Path(shutil.copytree(checkpoints["qwen3", name] / "model", tmp_path / "model"))
    held = quantized.read(target)
    weights = {f"{layer}.weight": packed.dequantize(torch.bfloat16) for layer, packed in held.layers.items()}
    return target, held.plain | weights, set(held.layers)


def rewrite(target: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(target / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})


DOWN = "model.layers.0.mlp.down_proj"
DAMAGE: dict[str, tuple[str, Callable[[dict[str, torch.Tensor]], object], str]] = {
    "a weight bit flips": (
        "fp8",
        lambda t: t[f"{DOWN}.weight"].view(torch.uint8)[3, 3].bitwise_xor_(1),
        "differs from the calibrated",
    ),
    "a packed bit flips": ("nvfp4", lambda t: t[f"{DOWN}.weight"][3, 3].bitwise_xor_(1), "differs from the calibrated"),
    "a NaN weight": ("fp8", lambda t: t[f"{DOWN}.weight"].view(torch.uint8)[0, 0].fill_(0x7F), "NaN bytes"),
    "a NaN scale byte": (
        "nvfp4",
        lambda t: t[f"{DOWN}.weight_scale"].view(torch.uint8)[0, 0].fill_(0x7F),
        "not finite and positive",
    ),
    "a zero scale byte": (
        "nvfp4",
        lambda t: t[f"{DOWN}.weight_scale"].view(torch.uint8)[0, 0].fill_(0),
        "not finite and positive",
    ),
    "an infinite scale": ("fp8", lambda t: t[f"{DOWN}.weight_scale"].fill_(float("inf")), "not finite and positive"),
    "a negative input scale": ("fp8", lambda t: t[f"{DOWN}.input_scale"].neg_(), "not finite and positive"),
    "a scale is missing": ("nvfp4", lambda t: t.pop(f"{DOWN}.weight_scale_2"), "weight_scale_2"),
    "an input scale is missing": ("fp8", lambda t: t.pop(f"{DOWN}.input_scale"), "input_scale"),
    "a layer is missing": ("fp8", lambda t: [t.pop(n) for n in list(t) if n.startswith(DOWN)], "other layers"),
    "a norm is missing": ("fp8", lambda t: t.pop("model.norm.weight"), "lacks or adds tensor model.norm.weight"),
    "a tensor is added": ("fp8", lambda t: t.update(extra=torch.ones(1)), "lacks or adds tensor extra"),
    "a norm has changed": ("fp8", lambda t: t["model.norm.weight"].add_(1), "differs from the calibrated"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_verification_sees_damage(checkpoints: Any, tmp_path: Path, case: str) -> None:
    name, change, sentence = DAMAGE[case]
    target, reference, layers = copy(checkpoints, name, tmp_path)
    verification.verify(target, reference, layers, {"lm_head"})
    rewrite(target, change)
    with pytest.raises((ValueError, RuntimeError), match=sentence):
        verification.verify(target, reference, layers, {"lm_head"})


def test_verification_compares_the_lists_of_excluded_modules(checkpoints: Any, tmp_path: Path) -> None:
    target, reference, layers = copy(checkpoints, "fp8", tmp_path)
    with pytest.raises(RuntimeError, match="does not list lm_tail as unquantized"):
        verification.verify(target, reference, layers, {"lm_head", "lm_tail"})
    path = target / "hf_quant_config.json"
    path.write_text(path.read_text().replace('"lm_head"', '"*down_proj"'))
    with pytest.raises(ValueError, match="disagree"):
        verification.verify(target, reference, layers, {"lm_head"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cpu_nvfp4_equals_modelopt_s_own(dtype: torch.dtype) -> None:
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    quantizers.prepare()
    torch.manual_seed(1)
    values = torch.randn(64, 128) * torch.logspace(-9, 3, 64)[:, None]
    ties = torch.arange(-8, 8, 0.0625)[: 15 * 17].reshape(17, 15)
    values[:17, :15], values[:17, 15] = ties, 6.0  # every rounding border of E2M1 in blocks whose scale is 1
    values[20] = 0
    values = values.to(dtype)
    for amax in (torch.tensor(6.0 * 448), values.abs().amax() * 0.3, torch.tensor(1e30)):
        scale = amax.float() / (6.0 * 448.0)
        packed, block_scales, _ = NVFP4QTensor.quantize(values, 16, weights_scaling_factor_2=scale)
        expected = packed.dequantize(dtype, scale=block_scales, double_scale=scale, block_sizes={-1: 16})
        assert torch.equal(nvfp4_cpu.fake_quantize(values, amax), expected)


def test_widths_that_nvfp4_cannot_pack_are_refused_before_work(shared_data: Path, tmp_path: Path) -> None:
    stories = shared_data / "weights" / "stories260K-hf"
    data = tmp_path / "data"
    data.mkdir()
    (data / "statistics.json").write_text(json.dumps({"tokenizer_fingerprint": tokenizer.fingerprint(stories)}))
    config = quantize.QuantizeConfig(format="nvfp4")
    with pytest.raises(
        ValueError,
        match="intermediate_size is 172 wide, not a multiple of 16, the block size of nvfp4; prune it to 160 or choose",
    ):
        quantize.check(stories, data, config)
    cache = quantize.QuantizeConfig(format="fp8", kv_cache="nvfp4")
    with pytest.raises(
        ValueError, match=r"head_dim is 8 wide, .* nvfp4 KV cache; set kv_cache to fp8, which fits every"
    ):
        quantize.check(stories, data, cache)
    quantize.check(stories, data, quantize.QuantizeConfig(format="fp8"))


def zero(model: Any) -> None:
    model.model.layers[1].mlp.up_proj.weight.data.zero_()
    model.model.layers[1].mlp.gate_proj.weight.data.zero_()


def poison(model: Any) -> None:
    model.model.layers[0].self_attn.o_proj.weight.data[0, 0] = float("nan")


def test_weights_that_no_scale_fits_are_refused(corpus: Path, tmp_path: Path, capfd: Any) -> None:
    source = make(tmp_path / "source", corpus, "qwen3", poison)
    inputs = {"model": source, "data": corpus}
    message = refused("quantize", CONFIG | {"format": "nvfp4"}, inputs, tmp_path / "out", capfd)
    assert "layers.0.self_attn.o_proj" in message
    assert not (tmp_path / "out" / "quantize.json").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"format": "fp8", "kv_cache": "fp8"},
        {"format": "nvfp4"},
        pytest.param({"format": "fp8_pc_pt"}, marks=pytest.mark.drill),
        pytest.param({"format": "int8_sq"}, marks=pytest.mark.drill),
        pytest.param({"format": "int4_awq", "block_size": 32}, marks=pytest.mark.drill),
    ],
    ids=lambda settings: str(settings["format"]),
)
def test_matrices_of_zeros_stay_zeros(
    settings: dict[str, Any], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(model: Any) -> None:
        zero(model)
        model.model.layers[0].self_attn.v_proj.weight.data.zero_()  # then the attention's output sees only zeros

    inputs = {"model": make(tmp_path / "source", corpus, "qwen3", silent), "data": corpus}
    output = run_job("quantize", CONFIG | settings, inputs, tmp_path / "out")
    assert "quantizers saw only zeros" in capsys.readouterr().out
    tensors = load_file(output / "model" / "model.safetensors")
    assert not tensors["model.layers.1.mlp.up_proj.weight"].float().any()
    assert all(value.float().isfinite().all() for name, value in tensors.items() if name.endswith("_scale"))


def test_blocks_of_zeros_and_of_tiny_values_survive(corpus: Path, tmp_path: Path) -> None:
    def tiny(model: Any) -> None:
        weight = model.model.layers[0].mlp.down_proj.weight.data
        weight[0] = 0
        weight[1] *= 2**-24  # far below what E4M3 block scales reach beside the layer's largest weight
        for row in range(2, 12):
            weight[row] *= 2.0 ** -(row + 4)  # around the smallest block scales, where rounding needs to settle

    source = make(tmp_path / "source", corpus, "llama", tiny)
    output = run_job("quantize", CONFIG | {"format": "nvfp4"}, {"model": source, "data": corpus}, tmp_path / "out")
    weight = unpack(load_file(output / "model" / "model.safetensors"), DOWN)
    assert weight.isfinite().all()
    assert not weight[:2].any()
    assert weight[12:].any()


def test_unusable_models_and_lengths_are_refused(
    corpus: Path, models: Any, checkpoints: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = CONFIG | {"format": "fp8"}
    inputs = {"model": models["llama"], "data": corpus}
    output = tmp_path / "out"
    assert "config.json" in refused("quantize", config, inputs | {"model": tmp_path}, output, capfd)
    again = inputs | {"model": checkpoints["llama", "fp8"]}
    assert "already quantized" in refused("quantize", config, again, output, capfd)
    assert "max_position_embeddings 128" in refused("quantize", config | {"seq_length": 129}, inputs, output, capfd)
