"""What inference engines do with ModelOpt's checkpoints: one row for each engine and algorithm, one for each key-value
cache. Plain data; `conf.engines.verdict` asks it.

`run`: imbik's export was opened by that engine (vLLM 0.32, its CPU build, 2026-11-27). `read`: from the sources of that
version, nobody ran it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from conf.formats import KVFormat

EngineName = Literal["vllm", "tensorrt_llm", "sglang"]
Generation = Literal["cpu", "ampere", "ada", "hopper", "blackwell"]
Known = Literal["run", "read"]


@dataclass(frozen=True)
class Fact:
    """Whether something loads and how that is known. `says`: what the engine does instead or, where it loads, what is
    different there, as what follows the engine's name in a sentence."""

    loads: bool
    known: Known
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One algorithm in one engine: all layers in it, some of a mix, its blocks (weights per scale; none: no choice),
    and the GPUs on which it is different."""

    alone: Fact
    mixed: Fact
    blocks: tuple[int, ...] = ()
    on: dict[Generation, Fact] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cache:
    """One format of the key-value cache in one engine. `argument`: the engine's name of it; empty: where the model
    loads, its cache keeps the model's type."""

    fact: Fact
    argument: str = ""
    on: dict[Generation, Fact] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine. `version` is the one that the rows are about; `needs`: a mix without one of these algorithms does not
    load, because of `needs_why`."""

    title: str
    version: str
    known: str
    on: dict[Generation, Fact] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    needs_why: str = ""


ENGINES: dict[EngineName, Engine] = {
    "vllm": Engine(
        title="vLLM",
        version="0.32",
        known="run on a CPU, NVFP4 by its emulated kernel and block FP8 by a reference kernel; its GPU kernels read",
    ),
    "tensorrt_llm": Engine(
        title="TensorRT-LLM",
        version="main of 2026-11",
        known="read",
        on={"cpu": Fact(False, "read", "runs on CUDA GPUs only")},
    ),
    "sglang": Engine(
        title="SGLang",
        version="0.5.23",
        known="read",
        on={"cpu": Fact(False, "read", "has a CPU backend for AMX only, to be built from source")},
        needs=("NVFP4", "W4A16_NVFP4"),
        needs_why="takes a mix without NVFP4 layers for another format (w4afp8)",
    ),
}

W4A16 = "leaves activations in 16 bits (W4A16), which the simulation does not"
W8A16 = "leaves activations in 16 bits (W8A16), which the simulation does not"
NO_KERNEL = "has no kernel for it in its CPU build"
BLACKWELL = "has kernels for Blackwell only, unless others are opted into"
RUN, READ = Fact(True, "run"), Fact(True, "read")
FP4_TENSORRT: dict[Generation, Fact] = {name: Fact(False, "read", BLACKWELL) for name in ("ampere", "ada", "hopper")}
UNKNOWN_ALGORITHM = "refuses the algorithm"
GARBAGE = "loads such layers as 16-bit weights without their scales and answers garbage, without an error"


def _refused(known: Known, says: str = UNKNOWN_ALGORITHM, mixed: Fact | None = None) -> Row:
    """Loads neither alone nor in a mix."""
    return Row(alone=Fact(False, known, says), mixed=mixed or Fact(False, "read", says))


def _rounds(precision: str) -> Fact:
    """Loads, with block scales in 16 bits: up to 2^-9 of a weight."""
    return Fact(True, "read", f"rounds block scales to {precision} first, which the simulation does not")


ROWS: dict[tuple[EngineName, str], Row] = {
    ("vllm", "FP8"): Row(alone=RUN, mixed=RUN, on={"ampere": Fact(True, "read", W8A16)}),
    ("vllm", "FP8_PER_CHANNEL_PER_TOKEN"): Row(
        alone=RUN, mixed=Fact(True, "run", "is the first version known to load it")
    ),
    ("vllm", "fp8_pb_wo"): Row(
        alone=RUN,
        mixed=READ,
        blocks=(128,),
        on={
            "cpu": Fact(True, "read", "needs a processor with AMX"),
            "blackwell": Fact(True, "read", "rounds scales to powers of two, which the simulation does not"),
        },
    ),
    ("vllm", "NVFP4"): Row(
        alone=RUN,
        mixed=RUN,
        on={
            "cpu": Fact(False, "run", NO_KERNEL),
            "ada": Fact(True, "read", W4A16),
            "hopper": Fact(True, "read", W4A16),
        },
    ),
    ("vllm", "NVFP4_AWQ"): _refused("run"),
    ("vllm", "W8A8_SQ_PER_CHANNEL"): _refused("run"),
    ("vllm", "W4A16_AWQ"): _refused("run"),
    ("vllm", "W4A8_AWQ"): _refused("run"),
    ("vllm", "W4A8_NVFP4_FP8"): _refused(
        "run", mixed=Fact(False, "run", "builds such layers unquantized and dies with an AttributeError")
    ),
    ("tensorrt_llm", "FP8"): Row(alone=READ, mixed=READ),
    ("tensorrt_llm", "FP8_PER_CHANNEL_PER_TOKEN"): Row(alone=READ, mixed=READ),
    ("tensorrt_llm", "fp8_pb_wo"): Row(alone=READ, mixed=READ, blocks=(128,)),
    ("tensorrt_llm", "NVFP4"): Row(alone=READ, mixed=READ, on=FP4_TENSORRT),
    ("tensorrt_llm", "NVFP4_AWQ"): Row(
        alone=Fact(True, "read", "loads it on its main branch, releases of 2025 refuse it"),
        mixed=Fact(True, "read", "loads it on its main branch, releases of 2025 refuse it"),
        on=FP4_TENSORRT,
    ),
    ("tensorrt_llm", "W8A8_SQ_PER_CHANNEL"): _refused("read", "has no such mode in its PyTorch backend"),
    ("tensorrt_llm", "W4A16_AWQ"): Row(alone=_rounds("bf16"), mixed=_rounds("bf16"), blocks=(64, 128)),
    ("tensorrt_llm", "W4A8_AWQ"): Row(alone=_rounds("fp16"), mixed=_rounds("fp16"), blocks=(64, 128)),
    ("tensorrt_llm", "W4A8_NVFP4_FP8"): Row(alone=READ, mixed=READ, on=FP4_TENSORRT),
    ("sglang", "FP8"): Row(alone=READ, mixed=READ),
    ("sglang", "FP8_PER_CHANNEL_PER_TOKEN"): _refused("read", mixed=Fact(False, "read", GARBAGE)),
    ("sglang", "fp8_pb_wo"): Row(alone=Fact(False, "read", UNKNOWN_ALGORITHM), mixed=READ, blocks=(128,)),
    ("sglang", "NVFP4"): Row(alone=READ, mixed=READ),
    ("sglang", "NVFP4_AWQ"): Row(alone=READ, mixed=Fact(False, "read", "builds such layers unquantized")),
    ("sglang", "W8A8_SQ_PER_CHANNEL"): _refused("read"),
    ("sglang", "W4A16_AWQ"): _refused("read"),
    ("sglang", "W4A8_AWQ"): _refused("read"),
    ("sglang", "W4A8_NVFP4_FP8"): _refused(
        "read", mixed=Fact(False, "read", "builds such layers unquantized and stops at their sizes")
    ),
}
"""By ModelOpt's name of the algorithm in hf_quant_config.json."""

ONLY_BLACKWELL = "keeps such a cache on Blackwell only"
DROPPED = Fact(True, "read", "drops its scales and keeps the cache in the model's type")
AVX512 = Fact(True, "run", "needs a processor with AVX-512 or AMX")
CACHES: dict[tuple[EngineName, KVFormat], Cache] = {
    ("vllm", "fp8"): Cache(fact=READ, argument="fp8", on={"cpu": AVX512}),
    ("vllm", "nvfp4"): Cache(
        fact=READ,
        argument="nvfp4",
        on={name: Fact(False, "read", ONLY_BLACKWELL) for name in ("cpu", "ampere", "ada", "hopper")},
    ),
    ("vllm", "nvfp4_affine"): Cache(fact=Fact(False, "run", "dies at the tensors k_bias and v_bias")),
    ("tensorrt_llm", "fp8"): Cache(fact=READ, argument="fp8"),
    ("tensorrt_llm", "nvfp4"): Cache(fact=READ, argument="nvfp4"),
    ("tensorrt_llm", "nvfp4_affine"): Cache(fact=Fact(False, "read", "knows no cache of that name")),
    ("sglang", "fp8"): Cache(fact=READ, argument="fp8_e4m3"),
    ("sglang", "nvfp4"): Cache(fact=DROPPED),
    ("sglang", "nvfp4_affine"): Cache(fact=DROPPED),
}

MODELS: dict[tuple[EngineName, str], Fact] = {
    ("vllm", "gemma2"): Fact(True, "read", "was not run with Gemma 2, whose caps and windows its source computes"),
    ("tensorrt_llm", "gemma2"): Fact(
        True, "read", "opens Gemma 2 in its PyTorch backend only if pull request 13612 is in it"
    ),
    ("sglang", "gemma2"): Fact(
        True, "read", "gives a window to every other layer of Gemma 2, whatever layer_types says"
    ),
}
"""By model_type: families that an engine may compute otherwise, whatever their format."""

DEVICES: dict[str, Generation] = {
    **dict.fromkeys(("A100", "A10", "A10G", "A30", "A40", "A6000"), "ampere"),
    **dict.fromkeys(("L4", "L40", "L40S", "RTX4090"), "ada"),
    **dict.fromkeys(("H20", "H100", "H200", "H800", "GH200"), "hopper"),
    **dict.fromkeys(("B100", "B200", "B300", "GB200", "GB300", "RTX5090", "PRO6000"), "blackwell"),
}
"""Generation of a GPU by its name."""
