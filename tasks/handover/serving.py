"""How a checkpoint is served: the commands of vLLM, TensorRT-LLM and SGLang, by what its own files say. It starts
nothing.

The flags are those of vLLM 0.29, TensorRT-LLM 1.2 and SGLang 0.5, by their documentation; none of them was run here.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

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
"""ModelOpt's algorithms that each engine's documentation says it reads, with the name it wants to hear; TensorRT-LLM
reads it itself."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What of a model directory concerns an engine. `longest`: tokens of a sequence; `algorithm`, `cache`: ModelOpt's
    names, None: none."""

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
    """One engine's command, or why it cannot."""

    engine: str
    command: str | None
    note: str = ""


def read(path: Path, name: str) -> ServedModel:
    """What the directory's files say. ValueError where it is no model."""
    config = path / "config.json"
    if not config.is_file():
        raise ValueError(
            f"{path} has no config.json, so it is not a Hugging Face model directory; name a RUN/MODEL or a model"
            " directory"
        )
    said = json.loads(config.read_text())
    quantized = path / "hf_quant_config.json"
    how = json.loads(quantized.read_text())["quantization"] if quantized.is_file() else {}
    settings = path / "tokenizer_config.json"
    words = json.loads(settings.read_text()) if settings.is_file() else {}
    dtype = str(said.get("dtype") or said.get("torch_dtype") or "bfloat16")
    return ServedModel(
        path=path,
        name=name,
        heads=said["num_attention_heads"],
        groups=said.get("num_key_value_heads") or said["num_attention_heads"],
        longest=said["max_position_embeddings"],
        dtype=dtype,
        algorithm=how.get("quant_algo"),
        cache=how.get("kv_cache_quant_algo"),
        has_template=bool(words.get("chat_template")) or (path / "chat_template.jinja").is_file(),
    )


def commands(model: ServedModel, gpus: int) -> list[Served]:
    """One for each engine. ValueError where the heads do not divide over the GPUs."""
    if model.heads % gpus or (model.groups % gpus and gpus % model.groups):
        raise ValueError(
            f"--gpus is {gpus}, over which the model's {model.heads} heads and {model.groups} key-value heads do not"
            f" divide; choose a divisor of {model.heads}"
        )
    found = [_vllm(model, gpus), _tensorrt(model, gpus), _sglang(model, gpus)]
    if model.has_template:
        return found
    note = "it has no chat template: ask /v1/completions, or name one with --chat-template"
    return [
        Served(engine=each.engine, command=each.command, note="; ".join(filter(None, (each.note, note))))
        for each in found
    ]


def _vllm(model: ServedModel, gpus: int) -> Served:
    if model.algorithm and model.algorithm not in VLLM:
        return _refused("vLLM", model, VLLM)
    words = ["vllm", "serve", str(model.path), "--served-model-name", model.name, "--tensor-parallel-size", str(gpus)]
    words += ["--max-model-len", str(model.longest)]
    words += ["--quantization", VLLM[model.algorithm]] if model.algorithm else ["--dtype", model.dtype]
    cache, note = _cache(model, "fp8")
    return Served(engine="vLLM", command=shlex.join([*words, *cache]), note=note)


def _tensorrt(model: ServedModel, gpus: int) -> Served:
    if model.algorithm and model.algorithm not in TENSORRT:
        return _refused("TensorRT-LLM", model, TENSORRT)
    words = [
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
        note = f"its {model.cache} key-value cache scales are not used" if model.cache else ""
        return Served(engine="TensorRT-LLM", command=shlex.join(words), note=note)
    settings = f"printf 'kv_cache_config: {{dtype: {cache}}}\\n' > serve.yaml"
    return Served(
        engine="TensorRT-LLM", command=f"{settings} && {shlex.join([*words, '--extra_llm_api_options', 'serve.yaml'])}"
    )


def _sglang(model: ServedModel, gpus: int) -> Served:
    if model.algorithm and model.algorithm not in SGLANG:
        return _refused("SGLang", model, SGLANG)
    words = ["python", "-m", "sglang.launch_server", "--model-path", str(model.path), "--served-model-name", model.name]
    words += ["--tp", str(gpus), "--context-length", str(model.longest)]
    words += ["--quantization", SGLANG[model.algorithm]] if model.algorithm else ["--dtype", model.dtype]
    cache, note = _cache(model, "fp8_e4m3")
    return Served(engine="SGLang", command=shlex.join([*words, *cache]), note=note)


def _cache(model: ServedModel, fp8: str) -> tuple[list[str], str]:
    """Words that keep keys and values as the model says, and what is to be said where the engine cannot; `fp8` is its
    name for FP8."""
    if model.cache == "FP8":
        return ["--kv-cache-dtype", fp8], ""
    return (
        [],
        (
            f"its {model.cache} key-value cache scales are not used: the cache keeps the model's type"
            if model.cache
            else ""
        ),
    )


def _refused(engine: str, model: ServedModel, known: dict[str, str] | frozenset[str]) -> Served:
    return Served(
        engine=engine,
        command=None,
        note=f"its documentation names no support for {model.algorithm} (it has {', '.join(sorted(known))})",
    )
