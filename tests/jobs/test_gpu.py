"""What only a CUDA GPU can show: that the numbers simulated and packed on a CPU are those of ModelOpt's own kernels.
`make gpu-check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobs.quantization import nvfp4_cpu, quantizers
from jobs.quantization.packed_layer import Packed
from tests.fixtures.jobs import run_job
from tests.jobs.test_quantize import CONFIG, models  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA device: ModelOpt's kernels cannot be compared with"
    ),
]
FORMATS = ("fp8", "nvfp4")


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
