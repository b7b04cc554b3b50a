"""Commands to serve a checkpoint with vLLM, TensorRT-LLM and SGLang, derived from its files. Nothing is started.

Flags follow the documentation of vLLM 0.29, TensorRT-LLM 1.2 and SGLang 0.5; untested.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from conf import hf_config

VLLM: dict[str, str] = {
    "FP8": "modelopt",
    "FP8_PER_CHANNEL_PER_TOKEN": "modelopt",
    "fp8_pb_wo": "modelopt",
    "NVFP4": "modelopt_fp4",
    "MIXED_PRECISION": "modelopt_mixed",
}
SGLANG: dict[str, str] = {"FP8": "modelopt_fp8", "NVFP4": "modelopt_fp4", "MIXED_PRECISION": "modelopt_mixed"}
TENSORRT: frozenset[str] = frozenset(
    {
        "FP8",
        "FP8_PER_CHANNEL_PER_TOKEN",
        "NVFP4",
        "NVFP4_AWQ",
        "W4A16_AWQ",
        "W4A8_AWQ",
        "W4A8_NVFP4_FP8",
        "MIXED_PRECISION",
    }
)
"""ModelOpt algorithms that each engine documents as supported, with its value for --quantization; TensorRT-LLM detects
them itself."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Properties of a model directory that matter for serving. `longest`: maximum sequence length; `algorithm`,
    `cache`: ModelOpt's names, None if unquantized."""

    path: Path
    name: str
    heads: int
    groups: int
    longest: int
    dtype: str
    algorithm: str | None
    cache: str | None
    has_template: bool


@dataclass(frozen=True, kw_only=True)
class Served:
    """One engine's command, or the reason why there is none."""

    engine: str
    command: str | None
    note: str = ""


def read(path: Path, name: str) -> ServedModel:
    """Read a model directory. Raises ValueError if it is not one."""
    config_file = path / "config.json"
    if not config_file.is_file():
        raise ValueError(
            f"{path} has no config.json, so it is not a Hugging Face model directory; use RUN/MODEL or a model"
            " directory"
        )
    config_json = json.loads(config_file.read_text())
    quantized = path / "hf_quant_config.json"
    quantization = json.loads(quantized.read_text())["quantization"] if quantized.is_file() else {}
    settings = path / "tokenizer_config.json"
    tokenizer = json.loads(settings.read_text()) if settings.is_file() else {}
    dtype = str(config_json.get("dtype") or config_json.get("torch_dtype") or "bfloat16")
    return ServedModel(
        path=path,
        name=name,
        heads=config_json["num_attention_heads"],
        groups=hf_config.key_value_heads(config_json),
        longest=hf_config.longest(config_json),
        dtype=dtype,
        algorithm=quantization.get("quant_algo"),
        cache=quantization.get("kv_cache_quant_algo"),
        has_template=bool(tokenizer.get("chat_template")) or (path / "chat_template.jinja").is_file(),
    )


def commands(model: ServedModel, gpus: int) -> list[Served]:
    """One command per engine. Raises ValueError if the GPUs do not divide the heads."""
    if model.heads % gpus or (model.groups % gpus and gpus % model.groups):
        raise ValueError(
            f"--gpus is {gpus}, which does not divide the model's {model.heads} heads and {model.groups} key-value"
            f" heads; choose a divisor of {model.heads}"
        )
    served = [_vllm(model, gpus), _tensorrt(model, gpus), _sglang(model, gpus)]
    if model.has_template:
        return served
    note = "it has no chat template: use /v1/completions, or set --chat-template"
    return [
        Served(engine=each.engine, command=each.command, note="; ".join(filter(None, (each.note, note))))
        for each in served
    ]


def _vllm(model: ServedModel, gpus: int) -> Served:
    if model.algorithm and model.algorithm not in VLLM:
        return _unsupported("vLLM", model, VLLM)
    arguments = [
        "vllm",
        "serve",
        str(model.path),
        "--served-model-name",
        model.name,
        "--tensor-parallel-size",
        str(gpus),
    ]
    arguments += ["--max-model-len", str(model.longest)]
    arguments += ["--quantization", VLLM[model.algorithm]] if model.algorithm else ["--dtype", model.dtype]
    cache, note = _cache(model, "fp8")
    return Served(engine="vLLM", command=shlex.join([*arguments, *cache]), note=note)


def _tensorrt(model: ServedModel, gpus: int) -> Served:
    if model.algorithm and model.algorithm not in TENSORRT:
        return _unsupported("TensorRT-LLM", model, TENSORRT)
    arguments = [
        "trtllm-serve",
        "serve",
        str(model.path),
        "--backend",
        "pytorch",
        "--tp_size",
        str(gpus),
        "--max_seq_len",
        str(model.longest),
    ]
    cache = {"FP8": "fp8", "NVFP4": "nvfp4"}.get(model.cache or "")
    if cache is None:
        note = f"its {model.cache} KV cache scales are not used" if model.cache else ""
        return Served(engine="TensorRT-LLM", command=shlex.join(arguments), note=note)
    settings = f"printf 'kv_cache_config: {{dtype: {cache}}}\\n' > serve.yaml"
    return Served(
        engine="TensorRT-LLM",
        command=f"{settings} && {shlex.join([*arguments, '--extra_llm_api_options', 'serve.yaml'])}",
    )


def _sglang(model: ServedModel, gpus: int) -> Served:
    if model.algorithm and model.algorithm not in SGLANG:
        return _unsupported("SGLang", model, SGLANG)
    arguments = [
        "python",
        "-m",
        "sglang.launch_server",
        "--model-path",
        str(model.path),
        "--served-model-name",
        model.name,
    ]
    arguments += ["--tp", str(gpus), "--context-length", str(model.longest)]
    arguments += ["--quantization", SGLANG[model.algorithm]] if model.algorithm else ["--dtype", model.dtype]
    cache, note = _cache(model, "fp8_e4m3")
    return Served(engine="SGLang", command=shlex.join([*arguments, *cache]), note=note)


def _cache(model: ServedModel, fp8: str) -> tuple[list[str], str]:
    """Arguments for the model's KV cache format, or a note if the engine does not support it; `fp8` is the engine's
    name for FP8."""
    if model.cache == "FP8":
        return ["--kv-cache-dtype", fp8], ""
    return (
        [],
        (f"its {model.cache} KV cache scales are not used: the cache has the model's dtype" if model.cache else ""),
    )


def _unsupported(engine: str, model: ServedModel, supported: dict[str, str] | frozenset[str]) -> Served:
    return Served(
        engine=engine,
        command=None,
        note=f"its documentation does not list {model.algorithm} (supported: {', '.join(sorted(supported))})",
    )
