"""What only a CUDA GPU can show: that the numbers simulated and packed on a CPU are those of ModelOpt's own kernels.
`make gpu-check`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conf.parallel import Parallel
from jobs.megatron import weights
from jobs.megatron.device import machine
from jobs.megatron.model import build, read_config
from jobs.quantization import nvfp4_cpu, quantizers
from jobs.quantization.packed_layer import Packed
from tests.fixtures.jobs import run_job
from tests.jobs.test_experts import OWN, SIZES
from tests.jobs.test_families import written
from tests.jobs.test_quantize import CONFIG, models  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA device: ModelOpt's kernels cannot be compared with"
    ),
]
FORMATS = ("fp8", "nvfp4")
GROUPED = "TEGroupedMLP"


@pytest.fixture(scope="module")
def checkpoints(corpus: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The qwen3 model in FP8 and in NVFP4, quantized on the GPU."""
    folder, inputs = tmp_path_factory.mktemp("gpu"), {"model": models["qwen3"], "data": corpus}
    return {name: run_job("quantize", CONFIG | {"format": name}, inputs, folder / name) for name in FORMATS}


def values() -> list[torch.Tensor]:
    """Weights-like, activations-like with outliers, and every rounding border of E2M1."""
    torch.manual_seed(11)
    ties = torch.arange(-8, 8, 0.0625).reshape(16, 16).clamp(-6, 6)
    spread = torch.randn(64, 128) * torch.logspace(-6, 3, 64)[:, None]
    return [
        tensor.to(dtype)
        for tensor in (ties, spread, torch.randn(33, 256) ** 3)
        for dtype in (torch.bfloat16, torch.float32)
    ]


def test_cpu_nvfp4_equals_modelopt_s_cuda_kernel() -> None:
    from modelopt.torch.quantization import tensor_quant

    quantizers.prepare()
    for tensor in values():
        for amax in (tensor.abs().amax().float(), tensor.abs().amax().float() * 0.4, torch.tensor(6.0 * 448)):
            kernel = tensor_quant.dynamic_block_quantize_op(tensor.cuda(), 16, amax.cuda(), 4, 2, 8, 4)
            assert torch.equal(nvfp4_cpu.fake_quantize(tensor, amax), kernel.cpu())


def test_cpu_fp8_equals_modelopt_s_cuda_kernel() -> None:
    from modelopt.torch.quantization import tensor_quant

    for tensor in values():
        for amax in (tensor.abs().amax().float(), tensor.abs().amax().float() * 0.4):
            on_gpu = tensor_quant.scaled_e4m3_impl(tensor.cuda(), amax.cuda())
            assert torch.equal(tensor_quant.scaled_e4m3_impl(tensor, amax), on_gpu.cpu())


@pytest.mark.parametrize("name", FORMATS)
def test_a_checkpoint_s_weights_are_the_same_numbers_on_both(checkpoints: Any, name: str) -> None:
    tensors = load_file(checkpoints[name] / "model" / "model.safetensors")
    algorithm = json.loads((checkpoints[name] / "model" / "hf_quant_config.json").read_text())["quantization"][
        "quant_algo"
    ]
    layers = [tensor.removesuffix(".weight_scale") for tensor in tensors if tensor.endswith(".weight_scale")]
    assert layers
    for layer in layers:
        names = ("weight", "weight_scale", "weight_scale_2", "input_scale")
        parts = {part: tensors[f"{layer}.{part}"] for part in names if f"{layer}.{part}" in tensors}
        on_cpu = Packed(algorithm=algorithm, **parts).dequantize(torch.bfloat16)
        on_gpu = Packed(algorithm=algorithm, **{part: tensor.cuda() for part, tensor in parts.items()}).dequantize(
            torch.bfloat16
        )
        assert torch.equal(on_cpu, on_gpu.cpu())


@pytest.mark.parametrize("name", FORMATS)
def test_cuda_quantizer_leaves_folded_weights_unchanged(checkpoints: Any, name: str) -> None:
    """What was folded is a fixed point: the kernel that engines' numbers are calibrated with gives every weight
    back."""
    from modelopt.torch.quantization import tensor_quant

    from jobs.quantization import checkpoint as quantized

    for packed in quantized.read(checkpoints[name] / "model").layers.values():
        weight = packed.dequantize(torch.bfloat16).cuda()
        if name == "fp8":
            kernel = tensor_quant.scaled_e4m3_impl(weight, (packed.weight_scale * 448).cuda())
            assert (
                (kernel - weight).abs().le(weight.abs() * 2**-7).all()
            )  # the kernel multiplies by a reciprocal, then rounds to bf16
        else:
            assert packed.weight_scale_2 is not None
            kernel = tensor_quant.dynamic_block_quantize_op(
                weight, 16, (packed.weight_scale_2 * 6 * 448).cuda(), 4, 2, 8, 4
            )
            differing = (kernel.float() - weight.float()).abs() > weight.float().abs() * 2**-7
            assert differing.float().mean() < 1e-3


@pytest.mark.skipif(importlib.util.find_spec("transformer_engine") is None, reason="no Transformer Engine")
@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral"])
def test_grouped_experts_compute_what_separate_ones_do(name: str, corpus: Path, tmp_path: Path) -> None:
    """Logits and the gradient of each weight, and the weights that are written again."""
    source = written(name, tmp_path / "source", corpus, **SIZES, **OWN[name])
    with machine(Parallel(), seed=0) as device:
        config, found = read_config(source), []
        for for_pruning in (False, True):
            model = build(config, Parallel(), "fp32", device, for_pruning=for_pruning)
            assert type(model.decoder.layers[0].mlp.experts).__name__ == ("SequentialMLP" if for_pruning else GROUPED)
            weights.load(model, source, config)
            tokens = (torch.arange(96).view(2, 48) * 7 % 384).to(device)
            logits = model(tokens, torch.arange(48, device=device).expand_as(tokens), None)
            logits.square().mean().backward()
            gradients = weights.gather_tensors(model, config, lambda parameter: parameter.grad)
            stored = weights.gather_tensors(model, config, lambda parameter: parameter)
            found.append((logits, dict(gradients), dict(stored)))
    (ours, gradients, stored), (expected, theirs, read) = found
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
    assert gradients.keys() == theirs.keys() and stored.keys() == read.keys()
    for title, gradient in theirs.items():
        torch.testing.assert_close(gradients[title], gradient, rtol=1e-2, atol=1e-4, msg=title)
        assert torch.equal(stored[title], read[title]), title
