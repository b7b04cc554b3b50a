"""ModelOpt's quantizers: the settings of each format, those that simulate a checkpoint's inputs and key-value cache,
and what ModelOpt lacks on this machine."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from conf.formats import Calibrator, KVFormat, QuantFormat
from conf.stages.quantize import QuantizeConfig
from jobs.quantization import nvfp4_cpu
from jobs.quantization.packed_layer import Inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PRESETS: dict[QuantFormat, str] = {
    "fp8": "FP8_DEFAULT_CFG",
    "fp8_pb_wo": "FP8_2D_BLOCKWISE_WEIGHT_ONLY_CFG",
    "fp8_pc_pt": "FP8_PER_CHANNEL_PER_TOKEN_CFG",
    "nvfp4": "NVFP4_DEFAULT_CFG",
    "nvfp4_mlp_only": "NVFP4_MLP_ONLY_CFG",
    "nvfp4_omlp_only": "NVFP4_OMLP_ONLY_CFG",
    "int8_sq": "INT8_SMOOTHQUANT_CFG",
    "int4_awq": "INT4_AWQ_CFG",
    "w4a8_awq": "W4A8_AWQ_BETA_CFG",
    "w4a8_nvfp4_fp8": "W4A8_NVFP4_FP8_CFG",
}
KV_PRESETS: dict[KVFormat, str] = {"fp8": "FP8_KV_CFG", "nvfp4": "NVFP4_KV_CFG", "nvfp4_affine": "NVFP4_AFFINE_KV_CFG"}
KV_QUANTIZERS = "*[kv]_bmm_quantizer"
AFFINE = "imbik_nvfp4_affine"
"""Our name, in ModelOpt's registry of backends, for NVFP4 with a bias."""

NVFP4_BLOCKS = {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}
INPUT_QUANTIZERS: dict[Inputs, dict[str, Any]] = {
    "fp8": {"num_bits": (4, 3), "axis": None},
    "fp8_token": {"num_bits": (4, 3), "type": "dynamic", "block_sizes": {-1: None}},
    "int8": {"num_bits": 8, "axis": None},
    "nvfp4": {"num_bits": (2, 1), "block_sizes": NVFP4_BLOCKS, "enable": True},
    "none": {"enable": False},
}


def format_settings(name: QuantFormat) -> dict[str, Any]:
    """ModelOpt's own settings for a format."""
    import modelopt.torch.quantization as mtq

    settings: dict[str, Any] = copy.deepcopy(getattr(mtq, PRESETS[name]))
    return settings


def recipe_settings(config: QuantizeConfig, mix: dict[str, QuantFormat] | None = None) -> dict[str, Any]:
    """ModelOpt's settings for a recipe: the format's own, with the recipe's calibrator, block size and key-value cache;
    or those of a `mix`, formats by layer name."""
    settings = format_settings(config.format) if config.format else mixed_settings(mix or {})
    if config.calibrator:
        settings["algorithm"] = algorithm(config.calibrator)
    if config.block_size:
        weights = settings["quant_cfg"]["*weight_quantizer"]
        blocks = (weights[0] if isinstance(weights, list) else weights)["block_sizes"]
        blocks.update({axis: config.block_size for axis in (-1, -2) if axis in blocks})
    if config.kv_cache:
        settings["quant_cfg"][KV_QUANTIZERS] = cache_settings(config.kv_cache)
    return settings


def mixed_settings(mix: dict[str, QuantFormat]) -> dict[str, Any]:
    """ModelOpt's settings for formats by layer name; other layers stay unquantized."""
    quantizers: dict[str, Any] = {"*": {"enable": False}}
    for layer, form in mix.items():
        preset = format_settings(form)["quant_cfg"]
        quantizers |= {
            f"{layer}.{kind}": {"enable": True, **preset[f"*{kind}"]}
            for kind in ("weight_quantizer", "input_quantizer")
        }
    return {"quant_cfg": quantizers, "algorithm": "max"}


def algorithm(calibrator: Calibrator) -> str | dict[str, Any]:
    """ModelOpt's name of a calibrator, with the steps of its presets."""
    return {"method": calibrator, "alpha_step": 0.1} if calibrator in ("awq_lite", "awq_full") else calibrator


def cache_settings(kv: KVFormat) -> dict[str, Any]:
    """ModelOpt's settings for the quantizers of a key-value cache."""
    import modelopt.torch.quantization as mtq

    quantizer: dict[str, Any] = copy.deepcopy(getattr(mtq, KV_PRESETS[kv])["quant_cfg"][KV_QUANTIZERS])
    return quantizer | ({"backend": AFFINE} if kv == "nvfp4_affine" else {})


def simulate_inputs(model: PreTrainedModel, inputs: dict[str, Inputs], kv: KVFormat | None) -> None:
    """Put quantizers on the inputs of the named linear layers and on the key-value cache; weights stay as they are."""
    import modelopt.torch.quantization as mtq

    quantizers: dict[str, Any] = {"*": {"enable": False}}
    quantizers |= {f"{layer}.input_quantizer": copy.deepcopy(INPUT_QUANTIZERS[kind]) for layer, kind in inputs.items()}
    if kv:
        quantizers[KV_QUANTIZERS] = cache_settings(kv)
    mtq.quantize(model, {"quant_cfg": quantizers, "algorithm": None})


def prepare() -> None:
    """Make ModelOpt's quantizers work on this machine."""
    from modelopt.torch.quantization.nn import register_quant_backend
    from modelopt.torch.quantization.nn.modules.tensor_quantizer import is_registered_quant_backend

    if not torch.cuda.is_available():
        nvfp4_cpu.install()
    if not is_registered_quant_backend(AFFINE):
        register_quant_backend(AFFINE, _affine)


def _affine(inputs: torch.Tensor, quantizer: Any) -> torch.Tensor:
    """NVFP4 of the residual after subtracting the bias, plus the bias, as engines compute it.

    ModelOpt 0.43 calibrates that bias and exports it, but its DynamicBlockQuantizationFunction never uses it."""
    from modelopt.torch.quantization import tensor_quant

    bias = quantizer._bias_value.to(inputs.dtype)
    residual = (inputs - bias).contiguous()
    rounded = tensor_quant.dynamic_block_quantize_op(residual, 16, quantizer._amax, 4, 2, 8, 4)
    return rounded + bias
