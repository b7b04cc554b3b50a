"""Commands to serve a checkpoint with vLLM, TensorRT-LLM and SGLang, derived from its files. Nothing is started.

What loads is asked from `conf.engines`. Flags follow the documentation of vLLM 0.29, TensorRT-LLM 1.2 and SGLang 0.5;
no command was run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conf import contract, hf_config
from conf.engines.table import ENGINES, EngineName, Generation
from conf.engines.verdict import Verdict, cache_argument

VLLM: dict[str, str] = {
    "FP8": "modelopt",
    "FP8_PER_CHANNEL_PER_TOKEN": "modelopt",
    "fp8_pb_wo": "modelopt",
    "NVFP4": "modelopt_fp4",
    contract.MIXED: "modelopt_mixed",
}
SGLANG: dict[str, str] = {
    "FP8": "modelopt_fp8",
    "NVFP4": "modelopt_fp4",
    "NVFP4_AWQ": "modelopt_fp4",
    contract.MIXED: "modelopt_mixed",
}
"""Values of --quantization for ModelOpt's algorithms; TensorRT-LLM detects them itself."""
BASE = "takes its own rotary base if it is built on transformers 4: config.json has it in rope_parameters only"
OFF_BLACKWELL = "--kv-cache-dtype bfloat16 serves it elsewhere with an unquantized cache"


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Properties of a model directory that matter for serving. `longest`: maximum sequence length; `algorithm`:
    ModelOpt's name, `cache`: imbik's, None if unquantized; `verdicts`: what each engine would do with its tensors."""

    path: Path
    name: str
    heads: int
    groups: int
    longest: int
    dtype: str
    algorithm: str | None
    cache: str | None
    has_template: bool
    verdicts: dict[EngineName, Verdict]
    hidden_base: bool = False
    """Engines on transformers 4 do not find its rotary base."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """One engine's command, or the reason why there is none."""

    engine: str
    command: str | None
    note: str = ""


def read(path: Path, name: str, generation: Generation | None = None) -> ServedModel:
    """Read a model directory, to be served on devices of a generation if one is given. Raises ValueError if it is not
    one."""
    config_file = path / "config.json"
    if not config_file.is_file():
        raise ValueError(
            f"{path} has no config.json, so it is not a Hugging Face model directory; use RUN/MODEL or a model"
            " directory"
        )
    config_json = json.loads(config_file.read_text())
    packed = contract.read(path)
    contents = contract.contents(packed) if packed else None
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
        algorithm=packed.settings.get("quant_algo") if packed else None,
        cache=contents.kv if contents else None,
        has_template=bool(tokenizer.get("chat_template")) or (path / "chat_template.jinja").is_file(),
        verdicts=contract.of(path, generation),
        hidden_base=hf_config.rope_in_both_forms(config_json) != config_json and "rope_theta" not in config_json,
    )


def commands(model: ServedModel, gpus: int) -> list[Served]:
    """One command per engine, or why it has none. Raises ValueError if the GPUs do not divide the heads."""
    if model.heads % gpus or (model.groups % gpus and gpus % model.groups):
        raise ValueError(
            f"--gpus is {gpus}, which does not divide the model's {model.heads} heads and {model.groups} key-value"
            f" heads; choose a divisor of {model.heads}"
        )
    makers: dict[EngineName, Callable[[ServedModel, int], str]] = {
        "vllm": _vllm,
        "tensorrt_llm": _tensorrt,
        "sglang": _sglang,
    }
    return [_served(model, engine, maker(model, gpus)) for engine, maker in makers.items()]


def _served(model: ServedModel, engine: EngineName, command: str) -> Served:
    judged = model.verdicts[engine]
    if not judged.loads:
        why = f"it {' and '.join(judged.why)}, as of {ENGINES[engine].version}"
        return Served(engine=ENGINES[engine].title, command=None, note=why)
    notes = [f"it {note}" for note in judged.notes]
    if engine == "vllm" and model.cache == "nvfp4":
        notes.append(OFF_BLACKWELL)
    if model.hidden_base:
        notes.append(f"it {BASE}")
    if not model.has_template:
        notes.append("it has no chat template: use /v1/completions, or set --chat-template")
    return Served(engine=ENGINES[engine].title, command=command, note="; ".join(notes))


def _vllm(model: ServedModel, gpus: int) -> str:
    arguments = ["vllm", "serve", str(model.path), "--served-model-name", model.name]
    arguments += ["--tensor-parallel-size", str(gpus), "--max-model-len", str(model.longest)]
    arguments += _quantization(model, VLLM)
    cache = cache_argument("vllm", model.cache)
    return shlex.join([*arguments, *(["--kv-cache-dtype", cache] if cache else [])])


def _tensorrt(model: ServedModel, gpus: int) -> str:
    arguments = ["trtllm-serve", "serve", str(model.path), "--backend", "pytorch", "--tp_size", str(gpus)]
    arguments += ["--max_seq_len", str(model.longest)]
    cache = cache_argument("tensorrt_llm", model.cache)
    if not cache:
        return shlex.join(arguments)
    settings = f"printf 'kv_cache_config: {{dtype: {cache}}}\\n' > serve.yaml"
    return f"{settings} && {shlex.join([*arguments, '--extra_llm_api_options', 'serve.yaml'])}"


def _sglang(model: ServedModel, gpus: int) -> str:
    arguments = ["python", "-m", "sglang.launch_server", "--model-path", str(model.path)]
    arguments += ["--served-model-name", model.name, "--tp", str(gpus), "--context-length", str(model.longest)]
    arguments += _quantization(model, SGLANG)
    cache = cache_argument("sglang", model.cache)
    return shlex.join([*arguments, *(["--kv-cache-dtype", cache] if cache else [])])


def _quantization(model: ServedModel, flags: dict[str, str]) -> list[str]:
    """Flags for the format; one without a value is detected, or its engine refuses it."""
    if model.algorithm is None:
        return ["--dtype", model.dtype]
    return ["--quantization", flags[model.algorithm]] if model.algorithm in flags else []
