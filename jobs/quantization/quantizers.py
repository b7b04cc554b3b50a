"""ModelOpt's quantizers: the settings of each format, those that simulate a checkpoint's inputs and key-value cache,
and what ModelOpt lacks on this machine."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from conf.formats import FORMATS, FP4, Calibrator, KVFormat, QuantFormat
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
FP8_BLOCKS = "imbik_fp8_blocks"
"""Our names, in ModelOpt's registry of backends, for NVFP4 with a bias, and for E4M3 with a scale per block of a
token's activations."""

NVFP4_BLOCKS = {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}
INPUT_QUANTIZERS: dict[Inputs, dict[str, Any]] = {
    "fp8": {"num_bits": (4, 3), "axis": None},
    "fp8_token": {"num_bits": (4, 3), "type": "dynamic", "block_sizes": {-1: None}},
    "int8": {"num_bits": 8, "axis": None},
    "nvfp4": {"num_bits": (2, 1), "block_sizes": NVFP4_BLOCKS},
    "fp8_blocks": {"num_bits": (4, 3), "axis": None, "type": "dynamic", "backend": FP8_BLOCKS},
    "none": {"enable": False},
}


Entry = dict[str, Any]
"""What ModelOpt's settings say of the quantizers with a name: `cfg`, how they round, or `enable`: False. Of several
entries about a quantizer the last counts."""


def input_entry(name: str, kind: Inputs, block: int | None) -> Entry:
    """ModelOpt's settings for the inputs of the layers `name`; `block` is that of their weights."""
    settings = copy.deepcopy(INPUT_QUANTIZERS[kind])
    if kind == "none":
        return {"quantizer_name": name, **settings}
    if kind == "fp8_blocks":
        settings["backend_extra_args"] = {"block": block}
    return {"quantizer_name": name, "cfg": settings}


def format_settings(name: QuantFormat) -> dict[str, Any]:
    """ModelOpt's own settings for a format."""
    import modelopt.torch.quantization as mtq

    settings: dict[str, Any] = copy.deepcopy(getattr(mtq, PRESETS[name]))
    return settings


def entry_of(settings: dict[str, Any], name: str) -> Entry:
    """The last entry of ModelOpt's settings about all quantizers `name`, whatever their layer's class."""
    entries: list[Entry] = settings["quant_cfg"]
    return [entry for entry in entries if entry["quantizer_name"] == name and "parent_class" not in entry][-1]


def recipe_settings(config: QuantizeConfig, mix: dict[str, QuantFormat] | None = None) -> dict[str, Any]:
    """ModelOpt's settings for a recipe: the format's own, with the recipe's calibrator, block size and key-value cache;
    or those of a `mix`, formats by layer name."""
    settings = format_settings(config.format) if config.format else mixed_settings(mix or {})
    if config.calibrator:
        settings["algorithm"] = algorithm(config.calibrator)
    if config.calibrator == "mse" and config.format in FP4:
        _search_scales(settings)
    if config.block_size:
        weights = entry_of(settings, "*weight_quantizer")["cfg"]
        blocks = (weights[0] if isinstance(weights, list) else weights)["block_sizes"]
        blocks.update({axis: config.block_size for axis in (-1, -2) if axis in blocks})
    if config.format == "fp8_pb_wo":  # ModelOpt leaves inputs alone, engines round them in the weights' blocks
        block, entry = config.block_size or FORMATS[config.format].block, entry_of(settings, "*input_quantizer")
        entry.pop("enable")
        entry |= input_entry("*input_quantizer", "fp8_blocks", block)  # in its place: later entries are exceptions
    if config.kv_cache:
        settings["quant_cfg"].append(cache_entry(config.kv_cache))
    return settings


def _search_scales(settings: dict[str, Any]) -> None:
    """Let the scale of each block of NVFP4 weights be searched among all E4M3 numbers, as ModelOpt's preset
    NVFP4_W4A4_WEIGHT_MSE_FP8_SWEEP_CFG does. Dynamic blocks, which the formats' presets have, `mse` leaves at max."""
    settings["algorithm"] = {"method": "mse", "fp8_scale_sweep": True}
    for entry in settings["quant_cfg"]:
        if entry["quantizer_name"].endswith("weight_quantizer") and "cfg" in entry:
            entry["cfg"]["block_sizes"]["type"] = "static"


def mixed_settings(mix: dict[str, QuantFormat]) -> dict[str, Any]:
    """ModelOpt's settings for formats by layer name; other layers stay unquantized."""
    quantizers: list[Entry] = [{"quantizer_name": "*", "enable": False}]
    for layer, form in mix.items():
        preset = format_settings(form)
        quantizers += [
            entry_of(preset, f"*{kind}") | {"quantizer_name": f"{layer}.{kind}"}
            for kind in ("weight_quantizer", "input_quantizer")
        ]
    return {"quant_cfg": quantizers, "algorithm": "max"}


def algorithm(calibrator: Calibrator) -> str | dict[str, Any]:
    """ModelOpt's name of a calibrator, with the steps of its presets."""
    return {"method": calibrator, "alpha_step": 0.1} if calibrator in ("awq_lite", "awq_full") else calibrator


def cache_entry(kv: KVFormat) -> Entry:
    """ModelOpt's settings for the quantizers of a key-value cache."""
    import modelopt.torch.quantization as mtq

    entry = copy.deepcopy(entry_of(getattr(mtq, KV_PRESETS[kv]), KV_QUANTIZERS))
    if kv == "nvfp4_affine":
        entry["cfg"]["backend"] = AFFINE
    return entry


def simulate_inputs(model: PreTrainedModel, inputs: dict[str, tuple[Inputs, int | None]], kv: KVFormat | None) -> None:
    """Put quantizers on the inputs of the named linear layers (how they are rounded, and the weights' block) and on the
    key-value cache; weights stay as they are."""
    import modelopt.torch.quantization as mtq

    quantizers: list[Entry] = [{"quantizer_name": "*", "enable": False}]
    quantizers += [input_entry(f"{layer}.input_quantizer", *how) for layer, how in inputs.items()]
    if kv:
        quantizers.append(cache_entry(kv))
    mtq.quantize(model, {"quant_cfg": quantizers, "algorithm": None})


def prepare() -> None:
    """Make ModelOpt's quantizers work on this machine."""
    from modelopt.torch.quantization.nn import register_quant_backend
    from modelopt.torch.quantization.nn.modules.tensor_quantizer import is_registered_quant_backend

    if not torch.cuda.is_available():
        nvfp4_cpu.install()
    for name, entry in ((AFFINE, _affine), (FP8_BLOCKS, _fp8_blocks)):
        if not is_registered_quant_backend(name):
            register_quant_backend(name, entry)


def _affine(inputs: torch.Tensor, quantizer: Any) -> torch.Tensor:
    """NVFP4 of the residual after subtracting the bias, plus the bias, as engines compute it.

    ModelOpt 0.46 calibrates that bias and exports it, but its DynamicBlockQuantizationFunction never uses it."""
    from modelopt.torch.quantization import tensor_quant

    bias = quantizer._bias_value.to(inputs.dtype)
    residual = (inputs - bias).contiguous()
    rounded = tensor_quant.dynamic_block_quantize_op(residual, 16, quantizer._amax, 4, 2, 8, 4)
    return rounded + bias


def _fp8_blocks(inputs: torch.Tensor, quantizer: Any) -> torch.Tensor:
    """E4M3 with a scale for each block of a token's activations, from the block's own largest magnitude: what vLLM and
    TensorRT-LLM do before they multiply with weights of square blocks.

    ModelOpt 0.46 has such blocks for a fixed shape of inputs only."""
    from modelopt.torch.quantization import tensor_quant

    blocks = inputs.unflatten(-1, (-1, quantizer.backend_extra_args["block"]))
    largest = blocks.detach().abs().amax(-1, keepdim=True)
    rounded: torch.Tensor = tensor_quant.scaled_e4m3(blocks, largest, None, 4, 3, None, quantizer._pass_through_bwd)
    return rounded.flatten(-2)
