"""The formats of quantization: their names, as ModelOpt's own scripts give them, and what each needs of a model and of
a calibrator.

It knows which combinations ModelOpt 0.43 calibrates and exports so that what engines read is what was calibrated;
making them is the business of the job."""

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
BLOCKS = (16, 32, 64, 128)
"""Block sizes that a format of free block size may be given; engines have kernels for 128 and for INT4 also for 64."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format: what it stores, calibrators that fit it (the first is its own), and the weights that share one
    scale."""

    what: str
    bits: float
    calibrators: tuple[Calibrator, ...] = ("max", "mse")
    block: int | None = None
    free_block: bool = False
    square: bool = False
    """Blocks are squares: outputs too come in whole blocks."""
    layers: Literal["all", "mlp", "omlp"] = "all"


NVFP4 = Format(what="E2M1 weights and activations in blocks of 16", bits=4, calibrators=("max", *AWQ), block=16)
FORMATS: dict[QuantFormat, Format] = {
    "fp8": Format(what="E4M3 weights and activations, a scale per tensor", bits=8),
    "fp8_pb_wo": Format(
        what="E4M3 weights, a scale per square of 128 x 128", bits=8, block=128, free_block=True, square=True
    ),
    "fp8_pc_pt": Format(what="E4M3 weights, a scale per output; activations, a scale per token", bits=8),
    "nvfp4": NVFP4,
    "nvfp4_mlp_only": replace(NVFP4, what="NVFP4 on the MLPs", layers="mlp"),
    "nvfp4_omlp_only": replace(NVFP4, what="NVFP4 on the MLPs and attention outputs", layers="omlp"),
    "int8_sq": Format(
        what="INT8 weights and activations, SmoothQuant", bits=8, calibrators=("smoothquant", "max", "mse")
    ),
    "int4_awq": Format(what="INT4 weights in blocks of 128, AWQ", bits=4, calibrators=AWQ, block=128, free_block=True),
    "w4a8_awq": Format(
        what="INT4 weights in blocks of 128, AWQ; E4M3 activations", bits=4, calibrators=AWQ, block=128, free_block=True
    ),
    "w4a8_nvfp4_fp8": Format(
        what="E2M1 weights in blocks of 32, E4M3 activations", bits=4, calibrators=("max",), block=32
    ),
}
MIXABLE: tuple[QuantFormat, ...] = ("fp8", "fp8_pc_pt", "nvfp4", "w4a8_nvfp4_fp8")
"""Formats that AutoQuantize may mix: those whose own calibrator is `max` and which change no neighbouring layer."""

FP4: tuple[QuantFormat, ...] = ("nvfp4", "nvfp4_mlp_only", "nvfp4_omlp_only", "w4a8_nvfp4_fp8")
REASONS: dict[tuple[str, Calibrator], str] = {
    **{
        (name, "mse"): "ModelOpt 0.43 exports block scales taken from the weights and drops the searched ones"
        for name in FP4
    },
    **{(name, "smoothquant"): "ModelOpt smooths by channel and NVFP4 scales by block" for name in FP4},
    ("fp8_pc_pt", "smoothquant"): "ModelOpt's dynamic scales per token cannot be smoothed",
    ("fp8", "smoothquant"): "the unified checkpoint has no place for the smoothing scales of FP8",
    ("int8_sq", "awq_lite"): "AWQ searches scales for weights in blocks",
}


def why_not(name: QuantFormat, calibrator: Calibrator) -> str:
    """Why a format cannot be calibrated so, as the end of a sentence."""
    known = REASONS.get((name, calibrator))
    return known or "ModelOpt 0.43 does not export that pair so that an engine would read what was calibrated"


@dataclass(frozen=True, kw_only=True)
class Widths:
    """The matrix sizes of a decoder that formats care about, by the names their owner gives them: (name, size)."""

    hidden: tuple[str, int]
    ffn: tuple[str, int]
    heads: tuple[str, int]
    kv: tuple[str, int]
    head_dim: tuple[str, int]


def misfit(name: QuantFormat, block: int | None, widths: Widths) -> tuple[str, int, int, str] | None:
    """The first width a format cannot pack: (name of the width, its size, the multiple needed, what needs it); None
    where all fit."""
    form = FORMATS[name]
    size = block or form.block
    if size is None:
        return None
    inputs = {"mlp": (widths.hidden, widths.ffn), "omlp": (widths.hidden, widths.ffn, widths.heads)}.get(form.layers)
    needed = list(inputs or (widths.hidden, widths.ffn, widths.heads))
    if form.square:
        needed.append(widths.kv)
    for what, width in needed:
        if width % size:
            return what, width, size, f"the block of {name}"
    if name in ("int4_awq", "w4a8_awq") and widths.kv[1] % 2:
        return *widths.kv, 2, f"{name} packs two outputs in a byte"
    return None


def kv_misfit(kv: KVFormat | None, widths: Widths) -> tuple[str, int, int, str] | None:
    """The same for the key-value cache, which NVFP4 cuts into blocks of 16 along each head."""
    if kv in ("nvfp4", "nvfp4_affine") and widths.head_dim[1] % 16:
        return *widths.head_dim, 16, f"the block of the {kv} key-value cache"
    return None
