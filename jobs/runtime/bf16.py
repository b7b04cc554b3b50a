"""bf16 matrix products on a CPU that has no kernels for them, through the fp32 kernels that it has.

Without AVX-512 or AMX, oneDNN declines bf16 and torch 2.13 falls back to scalar loops, up to 70 times slower than fp32.
The product of two bf16 numbers is exact in fp32, so an fp32 sum rounded once at the end is bf16 arithmetic in another
order of summation. Nothing is stored in fp32. Where the CPU has the kernels, nothing changes."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from conf.spec import BF16_KERNELS

BF16 = torch.bfloat16
TILE = 2**20
"""Elements of an operand held in fp32 at once. 4 MB stay near the cache and reuse the same pages, so that a large
weight takes no longer than in fp32 and needs only one tile of extra memory."""

PRODUCTS = ("mm", "mm.out", "bmm", "bmm.out", "addmm", "addmm.out", "addmm_", "baddbmm", "baddbmm.out", "baddbmm_")
ATTENTION_BACKWARD = "_scaled_dot_product_flash_attention_for_cpu_backward"
"""Attention itself is fast in bf16 on every CPU."""


def has_kernels() -> bool:
    """Whether torch multiplies bf16 matrices with vector kernels on this CPU; the environment variable BF16_KERNELS
    overrides what is detected."""
    setting = os.environ.get(BF16_KERNELS)
    return setting == "native" if setting else bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def install() -> None:
    """Multiply bf16 matrices through fp32 kernels in this process, where models run on a CPU without bf16 kernels.
    Idempotent."""
    if not torch.cuda.is_available() and not has_kernels():
        _install()


@functools.cache
def _install() -> torch.library.Library:
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about overriding a kernel, which is intended
        for name in (*PRODUCTS, ATTENTION_BACKWARD):
            override = _attention_backward if name == ATTENTION_BACKWARD else functools.partial(_product, name)
            library.impl(name, override(torch.library.get_kernel(f"aten::{name}", "CPU")), "CPU", with_keyset=True)
    return library


def multiply(
    a: Tensor, b: Tensor, out: Tensor | None = None, add: Tensor | None = None, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta * add + alpha * (a @ b) in bf16, accumulated in fp32 and rounded once.

    a [m, k] and b [k, n], or [batch, m, k] and [batch, k, n]; `add` may broadcast to the product, or be `out`."""
    if max(a.numel(), b.numel()) <= TILE:
        product = _in_fp32(a.float(), b.float(), add, beta, alpha)
        return product.to(BF16) if out is None else out.copy_(product)
    out = a.new_empty(*a.shape[:-1], b.shape[-1]) if out is None else out
    add = None if add is None else add.expand(out.shape)
    for left, right, part in _tiles(a, b):
        out[part] = _in_fp32(left, right, None if add is None else add[part], beta, alpha)
    return out


def _in_fp32(a: Tensor, b: Tensor, add: Tensor | None, beta: float, alpha: float) -> Tensor:
    if add is None:
        return torch.mm(a, b) if a.dim() == 2 else torch.bmm(a, b)
    kernel = torch.addmm if a.dim() == 2 else torch.baddbmm
    return kernel(add.float(), a, b, beta=beta, alpha=alpha)


def _tiles(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor, Any]]:
    """Parts of both operands in fp32, and the index of the part of the product they give. The smaller operand is
    converted once."""
    if a.dim() == 3:
        step = max(1, TILE // max(a[0].numel(), b[0].numel()))
        for part in _steps(len(a), step):
            yield a[part].float(), b[part].float(), part
    elif a.numel() >= b.numel():
        converted = b.float()
        for part in _steps(len(a), max(1, TILE // a.shape[1])):
            yield a[part].float(), converted, part
    else:
        converted = a.float()
        for part in _steps(b.shape[1], max(1, TILE // len(b))):
            yield converted, b[:, part].float(), (slice(None), part)


def _steps(length: int, step: int) -> Iterator[slice]:
    yield from (slice(start, start + step) for start in range(0, length, step))


def _is_slow(add: Tensor | None, a: Tensor, b: Tensor, out: Tensor | None) -> bool:
    """Whether torch's own kernel would loop over scalars. It does not for one row times a transposed matrix (a token
    times a weight); mismatched operands are left for torch to refuse."""
    if any(tensor.dtype is not BF16 for tensor in (a, b, add, out) if tensor is not None):
        return False
    if a.dim() != b.dim() or a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2]:
        return False
    return not (a.dim() == 2 and len(a) == 1 and b.stride(0) == 1)


def _product(name: str, native: Any) -> Callable[..., Tensor]:
    """The replacement of `native`, the CPU kernel of the operator `name`."""
    operator, _, overload = name.partition(".")
    has_addend, in_place = "add" in operator, operator.endswith("_")

    def kernel(keys: Any, *operands: Tensor, out: Tensor | None = None, **scales: float) -> Tensor:
        add, a, b = operands if has_addend else (None, *operands)
        if not _is_slow(add, a, b, out):
            output: dict[str, Any] = {"out": out} if overload else {}
            return native.call_boxed(keys, *operands, **scales, **output)
        if overload and out is not None:
            out.resize_(*a.shape[:-1], b.shape[-1])
        return multiply(a, b, add if in_place else out, add, **scales)

    return kernel


def _attention_backward(native: Any) -> Callable[..., tuple[Tensor, ...]]:
    def kernel(keys: Any, gradient: Tensor, *operands: Any, **settings: Any) -> tuple[Tensor, ...]:
        if gradient.dtype is not BF16:
            return native.call_boxed(keys, gradient, *operands, **settings)
        operands_fp32 = [each.float() if isinstance(each, Tensor) else each for each in (gradient, *operands)]
        settings = {
            name: each.float() if isinstance(each, Tensor) and each.dtype is BF16 else each
            for name, each in settings.items()
        }
        return tuple(each.to(BF16) for each in getattr(torch.ops.aten, ATTENTION_BACKWARD)(*operands_fp32, **settings))

    return kernel
