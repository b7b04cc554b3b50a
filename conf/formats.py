"""Quantization formats, named as in ModelOpt's scripts, and their requirements on models and calibrators.

Lists the combinations for which ModelOpt exports what it calibrated; the job does the quantization."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

QuantFormat = Literal[
    "fp8",
    "fp8_pb_wo",
    "fp8_pc_pt",
    "nvfp4",
    "nvfp4_mlp_only",
    "nvfp4_omlp_only",
    "int8_sq",
    "int4_awq",
    "w4a8_awq",
    "w4a8_nvfp4_fp8",
]
KVFormat = Literal["fp8", "nvfp4", "nvfp4_affine"]
Calibrator = Literal["max", "mse", "smoothquant", "awq_lite", "awq_clip", "awq_full"]

AWQ: tuple[Calibrator, ...] = ("awq_lite", "awq_clip", "awq_full")
SMOOTHING: tuple[Calibrator, ...] = ("awq_lite", "awq_full")
"""Those that multiply inputs by a scale; awq_clip only clips weights."""
BLOCKS = (16, 32, 64, 128)
"""Block sizes for formats with a free block size. Engines read some of them only: conf/engines/table.py."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format: its description, ModelOpt's name of it in a checkpoint, compatible calibrators (the first is the
    default), and the block size (weights per scale)."""

    description: str
    algorithm: str
    bits: float
    calibrators: tuple[Calibrator, ...] = ("max", "mse")
    block: int | None = None
    free_block: bool = False
    square: bool = False
    """Blocks are squares: output dimensions must also be multiples."""
    layers: Literal["all", "mlp", "omlp"] = "all"


NVFP4 = Format(
    description="E2M1 weights and activations in blocks of 16",
    algorithm="NVFP4",
    bits=4,
    calibrators=("max", "mse", *AWQ),
    block=16,
)
SMOOTHED: dict[str, str] = {"NVFP4": "NVFP4_AWQ"}
"""Names of formats whose checkpoints have another one with a calibrator that smooths."""
FORMATS: dict[QuantFormat, Format] = {
    "fp8": Format(description="E4M3 weights and activations, one scale per tensor", algorithm="FP8", bits=8),
    "fp8_pb_wo": Format(
        description="E4M3 weights, one scale per 128 x 128 block; activations, one scale per 128 values of a token",
        algorithm="fp8_pb_wo",
        bits=8,
        block=128,
        free_block=True,
        square=True,
    ),
    "fp8_pc_pt": Format(
        description="E4M3 weights, one scale per output channel; activations, one scale per token",
        algorithm="FP8_PER_CHANNEL_PER_TOKEN",
        bits=8,
    ),
    "nvfp4": NVFP4,
    "nvfp4_mlp_only": replace(NVFP4, description="NVFP4 on the MLPs", layers="mlp"),
    "nvfp4_omlp_only": replace(NVFP4, description="NVFP4 on the MLPs and attention outputs", layers="omlp"),
    "int8_sq": Format(
        description="INT8 weights and activations, SmoothQuant",
        algorithm="W8A8_SQ_PER_CHANNEL",
        bits=8,
        calibrators=("smoothquant", "max", "mse"),
    ),
    "int4_awq": Format(
        description="INT4 weights in blocks of 128, AWQ",
        algorithm="W4A16_AWQ",
        bits=4,
        calibrators=AWQ,
        block=128,
        free_block=True,
    ),
    "w4a8_awq": Format(
        description="INT4 weights in blocks of 128, AWQ; E4M3 activations",
        algorithm="W4A8_AWQ",
        bits=4,
        calibrators=AWQ,
        block=128,
        free_block=True,
    ),
    "w4a8_nvfp4_fp8": Format(
        description="E2M1 weights in blocks of 32, E4M3 activations",
        algorithm="W4A8_NVFP4_FP8",
        bits=4,
        calibrators=("max",),
        block=32,
    ),
}
MIXABLE: tuple[QuantFormat, ...] = ("fp8", "fp8_pc_pt", "nvfp4", "w4a8_nvfp4_fp8")
"""Formats that AutoQuantize can mix: default calibrator `max`, and no change of neighbouring layers."""

FP4: tuple[QuantFormat, ...] = ("nvfp4", "nvfp4_mlp_only", "nvfp4_omlp_only", "w4a8_nvfp4_fp8")
REASONS: dict[tuple[str, Calibrator], str] = {
    ("w4a8_nvfp4_fp8", "mse"): "ModelOpt 0.46 searches scales of blocks but exports this format's one scale from them",
    **{(name, "smoothquant"): "ModelOpt smooths per channel but NVFP4 scales per block" for name in FP4},
    ("fp8_pc_pt", "smoothquant"): "ModelOpt cannot smooth dynamic per-token scales",
    ("fp8", "smoothquant"): "the unified checkpoint cannot store smoothing scales for FP8",
    ("int8_sq", "awq_lite"): "AWQ needs weights in blocks",
}


def why_not(name: QuantFormat, calibrator: Calibrator) -> str:
    """Why a format does not work with a calibrator, as the end of a sentence."""
    known = REASONS.get((name, calibrator))
    return known or "ModelOpt does not export what this combination calibrates"


def algorithm_of(name: QuantFormat, calibrator: Calibrator) -> str:
    """ModelOpt's name of the format in hf_quant_config.json."""
    algorithm = FORMATS[name].algorithm
    return SMOOTHED.get(algorithm, algorithm) if calibrator in SMOOTHING else algorithm


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Matrix sizes of a decoder that matter for formats, as (display name, size)."""

    hidden: tuple[str, int]
    ffn: tuple[str, int]
    heads: tuple[str, int]
    kv: tuple[str, int]
    head_dim: tuple[str, int]


def misfit(name: QuantFormat, block: int | None, widths: Widths) -> tuple[str, int, int, str] | None:
    """The first width that a format cannot pack: (name, size, required multiple, reason); None if all fit."""
    form = FORMATS[name]
    size = block or form.block
    if size is None:
        return None
    inputs = {"mlp": (widths.hidden, widths.ffn), "omlp": (widths.hidden, widths.ffn, widths.heads)}.get(form.layers)
    inputs_and_outputs = list(inputs or (widths.hidden, widths.ffn, widths.heads))
    if form.square:
        inputs_and_outputs.append(widths.kv)
    for name_of_width, width in inputs_and_outputs:
        if width % size:
            return name_of_width, width, size, f"the block size of {name}"
    if name in ("int4_awq", "w4a8_awq") and widths.kv[1] % 2:
        return *widths.kv, 2, f"because {name} packs two outputs per byte"
    return None


def kv_misfit(kv: KVFormat | None, widths: Widths) -> tuple[str, int, int, str] | None:
    """The same for the KV cache, which NVFP4 divides into blocks of 16 along each head."""
    if kv in ("nvfp4", "nvfp4_affine") and widths.head_dim[1] % 16:
        return *widths.head_dim, 16, f"the block size of the {kv} KV cache"
    return None
