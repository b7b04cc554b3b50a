"""Lets ModelOpt simulate and pack NVFP4 without CUDA: the only module that replaces one of its functions.

The replacement computes what ModelOpt's own NVFP4QTensor computes, bit for bit; where there is CUDA nothing may be
replaced."""

from __future__ import annotations

from typing import Any

import torch

BLOCK = 16
"""Values per scale."""
LARGEST_FP4 = 6.0
LARGEST_SCALE = 448.0
"""Largest finite E4M3 number."""
SMALLEST_SCALE = 2.0**-9
"""Smallest E4M3 number above zero: a block's scale is never less."""


def install() -> None:
    """Replace ModelOpt's CUDA-only NVFP4 functions in this process. Idempotent."""
    from modelopt.torch.quantization import tensor_quant
    from modelopt.torch.quantization.nn.modules import tensor_quantizer

    assert not torch.cuda.is_available(), "ModelOpt's own NVFP4 kernels run here"
    # _dynamic_block_quantize_impl asserts that amax lies on a CUDA device.
    tensor_quant.dynamic_block_quantize_op = _dynamic_block_quantize

    class StaticBlocks(tensor_quant.StaticBlockwiseFP4FakeQuantFunction):
        """ModelOpt's function of blocks with scales of their own, whose forward pass needs Triton."""

        @staticmethod
        def forward(
            ctx: Any,
            inputs: torch.Tensor,
            amax: torch.Tensor,
            global_amax: torch.Tensor,
            rounds_scales: bool,
            largest_scale: float,
            out_dtype: torch.dtype,
            pass_through: bool = False,
        ) -> torch.Tensor:
            assert rounds_scales and largest_scale == LARGEST_SCALE, "only NVFP4 is simulated here"
            tensor_quant._save_for_backward_if_needed(ctx, pass_through, inputs, amax)
            return fake_quantize(inputs, global_amax, inputs.numel() // amax.numel(), amax.reshape(-1, 1)).to(out_dtype)

    tensor_quantizer.static_blockwise_fp4_fake_quant = StaticBlocks.apply


def _dynamic_block_quantize(
    inputs: torch.Tensor,
    block_size: int,
    amax: torch.Tensor,
    num_bits: int,
    exponent_bits: int,
    scale_num_bits: int,
    scale_exponent_bits: int,
) -> torch.Tensor:
    """ModelOpt's operator of this name, for NVFP4 only: E2M1 values, E4M3 scales."""
    assert (num_bits, exponent_bits, scale_num_bits, scale_exponent_bits) == (
        4,
        2,
        8,
        4,
    ), "only NVFP4 is simulated here"
    return fake_quantize(inputs, amax, block_size)


def fake_quantize(
    inputs: torch.Tensor, amax: torch.Tensor, block_size: int = BLOCK, of_blocks: torch.Tensor | None = None
) -> torch.Tensor:
    """`inputs` rounded to NVFP4 and back, in their dtype; `amax` is the largest magnitude the global scale must cover,
    `of_blocks` [blocks, 1] those that the blocks' scales are to cover, if not their own.

    E2M1 has steps of 0.5 below 2, of 1 below 4 and of 2 up to 6, rounded half to even; each block's scale is rounded to
    E4M3."""
    global_scale = amax.float() / (LARGEST_FP4 * LARGEST_SCALE)
    blocks = inputs.reshape(-1, block_size).float()
    largest = blocks.abs().amax(-1, keepdim=True) if of_blocks is None else of_blocks.float()
    scale = largest / (LARGEST_FP4 * global_scale)
    scale[scale == 0] = 1.0
    scale = scale.clamp_(SMALLEST_SCALE, LARGEST_SCALE).to(torch.float8_e4m3fn).float().mul_(global_scale)
    scaled = blocks / scale
    magnitude = scaled.abs()
    step = torch.where(magnitude < 2, 0.5, torch.where(magnitude < 4, 1.0, 2.0))
    rounded = torch.round(magnitude / step).mul_(step).nan_to_num_(nan=LARGEST_FP4).clamp_(max=LARGEST_FP4)
    return rounded.copysign_(scaled).mul_(scale).reshape(inputs.shape).to(inputs.dtype)
