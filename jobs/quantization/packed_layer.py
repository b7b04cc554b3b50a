"""One quantized linear layer as the unified checkpoint stores it: its tensors, their types, and the value each weight
stands for.

Packing and unpacking use ModelOpt's own arithmetic, in fp32 and rounded once; an unpacked weight packs to the same
bytes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from jobs.quantization import nvfp4_cpu

LARGEST_FP8 = 448.0
LARGEST_INT8 = 127.0
FP8, INT8, BYTES, FLOAT = torch.float8_e4m3fn, torch.int8, torch.uint8, torch.float32
Inputs = Literal["fp8", "fp8_token", "fp8_blocks", "int8", "nvfp4", "none"]
INPUT_BOUND: dict[Inputs, float] = {
    "fp8": LARGEST_FP8,
    "int8": LARGEST_INT8,
    "nvfp4": nvfp4_cpu.LARGEST_FP4 * nvfp4_cpu.LARGEST_SCALE,
}
"""The largest activation that input_scale can represent, in units of input_scale."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """One way to store a layer, under ModelOpt's name: the types of its weight and scales, and how its inputs are
    rounded."""

    weight: torch.dtype
    scale: torch.dtype = FLOAT
    second_scale: bool = False
    inputs: Inputs = "none"
    smoothed: bool = False
    """Inputs may be multiplied by pre_quant_scale first."""


ALGORITHMS: dict[str, Storage] = {
    "FP8": Storage(weight=FP8, inputs="fp8"),
    "fp8_pb_wo": Storage(weight=FP8, inputs="fp8_blocks"),
    "FP8_PER_CHANNEL_PER_TOKEN": Storage(weight=FP8, inputs="fp8_token"),
    "W8A8_SQ_PER_CHANNEL": Storage(weight=INT8, inputs="int8", smoothed=True),
    "W4A16_AWQ": Storage(weight=BYTES, smoothed=True),
    "W4A8_AWQ": Storage(weight=BYTES, second_scale=True, inputs="fp8", smoothed=True),
    "NVFP4": Storage(weight=BYTES, scale=FP8, second_scale=True, inputs="nvfp4"),
    "NVFP4_AWQ": Storage(weight=BYTES, scale=FP8, second_scale=True, inputs="nvfp4", smoothed=True),
    "W4A8_NVFP4_FP8": Storage(weight=BYTES, scale=FP8, second_scale=True, inputs="fp8"),
}
INT4 = ("W4A16_AWQ", "W4A8_AWQ")
FP4 = ("NVFP4", "NVFP4_AWQ", "W4A8_NVFP4_FP8")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A layer as stored: FP8 and INT8 weights [out, in]; INT4 [out / 2, in], two outputs per byte; FP4 [out, in / 2],
    two inputs per byte.

    `weight_scale` holds one number, one per output [out], one per block of inputs [out, blocks], or one per square
    [rows, 1, columns, 1]."""

    algorithm: str
    weight: torch.Tensor
    weight_scale: torch.Tensor
    weight_scale_2: torch.Tensor | None = None
    input_scale: torch.Tensor | None = None
    pre_quant_scale: torch.Tensor | None = None
    block: int | None = None

    @property
    def storage(self) -> Storage:
        """How its algorithm stores it."""
        return ALGORITHMS[self.algorithm]

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the layer."""
        rows, columns = self.weight.shape
        return (
            (2 * rows, columns) if self.algorithm in INT4 else (rows, 2 * columns if self.algorithm in FP4 else columns)
        )

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight [out, in] that engines multiply with, computed in fp32 and rounded once to `dtype`."""
        if self.algorithm in FP4:
            return self._fp4().to(dtype)
        codes = self._int4() if self.algorithm in INT4 else self.weight.float()
        values = codes * spread(self.weight_scale.float(), self.algorithm, self.shape, self.block)
        if self.algorithm == "W4A8_AWQ":  # the kernel turns INT4 into FP8 before it multiplies
            assert self.weight_scale_2 is not None
            values = round_fp8(values, self.weight_scale_2) * self.weight_scale_2
        return values.to(dtype)

    def _int4(self) -> torch.Tensor:
        low, high = self.weight & 0x0F, self.weight >> 4
        codes = torch.stack([low, high], dim=1).flatten(0, 1).to(torch.int8)
        return torch.where(codes > 7, codes - 16, codes).float()

    def _fp4(self) -> torch.Tensor:
        from modelopt.torch.quantization.qtensor import NVFP4QTensor

        packed = NVFP4QTensor(self.shape, torch.float32, self.weight)
        unpacked: torch.Tensor = packed.dequantize(
            scale=self.weight_scale,
            double_scale=self.weight_scale_2,
            block_sizes={-1: self.shape[1] // self.weight_scale.shape[1]},
        )
        return unpacked

    def check(self, name: str) -> None:
        """Refuse missing or malformed parts, scales that are not finite and positive, and weights that are NaN."""
        storage, (rows, columns) = self.storage, self.shape
        _check_tensor(name, "weight", self.weight, storage.weight, None)
        if storage.weight == FP8 and not self.weight.float().isfinite().all():
            raise ValueError(f"{name}.weight holds NaN bytes; quantize the model again")
        shape = {"FP8": (), "FP8_PER_CHANNEL_PER_TOKEN": (rows,), "W8A8_SQ_PER_CHANNEL": (rows,)}.get(self.algorithm)
        if self.algorithm in (*INT4, *FP4) and self.block:
            shape = (rows, columns // self.block)
        _check_tensor(name, "weight_scale", self.weight_scale, storage.scale, shape)
        if self.algorithm == "fp8_pb_wo":
            self._check_squares(name)
        parts = {"weight_scale": self.weight_scale}
        for part, required in (
            ("weight_scale_2", storage.second_scale),
            ("input_scale", storage.inputs in INPUT_BOUND),
        ):
            value = getattr(self, part)
            if required:
                _check_tensor(name, part, value, FLOAT, ())
                parts[part] = value
        if self.pre_quant_scale is not None:
            _check_tensor(name, "pre_quant_scale", self.pre_quant_scale, self.pre_quant_scale.dtype, (columns,))
            parts["pre_quant_scale"] = self.pre_quant_scale
        for part, tensor in parts.items():
            value = tensor.float()
            if not (value.isfinite() & (value > 0)).all():
                raise ValueError(f"{name}.{part} is not finite and positive everywhere; quantize the model again")

    def _check_squares(self, name: str) -> None:
        """Refuse scales of square blocks in another shape: engines read no other."""
        (rows, columns), block, found = self.shape, self.block, tuple(self.weight_scale.shape)
        if not block or found != (rows // block, 1, columns // block, 1):
            raise ValueError(
                f"{name}.weight_scale is {found} for {rows} x {columns} weights, not one scale per square; quantize the"
                " model again"
            )


def _check_tensor(
    layer: str, part: str, tensor: torch.Tensor | None, dtype: torch.dtype, shape: tuple[int, ...] | None
) -> None:
    if tensor is None:
        raise ValueError(f"{layer} lacks the tensor {layer}.{part}; quantize the model again")
    if tensor.dtype != dtype or (shape is not None and tuple(tensor.shape) != shape):
        expected = f"{dtype}" if shape is None else f"{dtype} of shape {shape}"
        raise ValueError(
            f"{layer}.{part} is {tensor.dtype} of shape {tuple(tensor.shape)} where {expected} is needed; quantize the"
            " model again"
        )


def pack(
    algorithm: str, weight: torch.Tensor, scale: torch.Tensor, second: torch.Tensor | None, block: int | None
) -> Packed:
    """`weight` [out, in] as ModelOpt's export stores it with these scales; values out of range are clamped instead of
    becoming NaN."""
    shape = (weight.shape[0], weight.shape[1])
    if algorithm in FP4:
        from modelopt.torch.quantization.qtensor import NVFP4QTensor

        assert second is not None
        codes = NVFP4QTensor.quantize(weight, block, scale, second.reshape(()))[0]._quantized_data
    elif algorithm in INT4:
        from modelopt.torch.export.quant_utils import pack_int4_in_uint8

        codes = pack_int4_in_uint8(weight.float(), scale)
    elif algorithm == "W8A8_SQ_PER_CHANNEL":
        codes = (weight.float() / spread(scale, algorithm, shape, block)).round().clamp(-128, 127).to(INT8)
    else:
        codes = round_fp8(weight.float(), spread(scale, algorithm, shape, block)).to(FP8)
    return Packed(algorithm=algorithm, weight=codes, weight_scale=scale, weight_scale_2=second, block=block)


def round_fp8(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """E4M3 codes of `values` in units of `scale`, as fp32 numbers, clamped to the largest."""
    return (values / scale).clamp(-LARGEST_FP8, LARGEST_FP8).to(FP8).float()


def spread(scale: torch.Tensor, algorithm: str, shape: tuple[int, int], block: int | None) -> torch.Tensor:
    """`scale` broadcast over a weight of `shape`: one number, one per output, one per block of inputs, or one per
    square of `block`."""
    rows, columns = shape
    if scale.numel() == 1:
        return scale.reshape(())
    if block is None:
        return scale.reshape(rows, 1)
    if algorithm == "fp8_pb_wo":
        squares = scale.reshape(rows // block, columns // block)
        return squares.repeat_interleave(block, dim=0).repeat_interleave(block, dim=1)
    return scale.reshape(rows, -1).repeat_interleave(block, dim=1)
