"""This machine's CPU as far as the speed of jobs depends on it: which kernels multiply bf16 on it, and how fast it
multiplies at all."""

from __future__ import annotations

import os
import statistics
import time
from functools import cache
from pathlib import Path

from conf.spec import BF16_KERNELS

CPUINFO = Path("/proc/cpuinfo")
BF16 = ({"avx512f", "avx512bw", "avx512vl", "avx512dq"}, {"avx_ne_convert", "avx_vnni_int8"}, {"bf16"})
"""Any of these sets of features gives oneDNN its kernels for bf16: AVX-512 and with it AMX, AVX2 with VNNI-2, ARM's
own."""
SIZE, TIMES = 1024, 10


def has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether torch has vector kernels for bf16 products on this CPU (`jobs.bf16` asks torch itself), or is told to do
    as if."""
    if told := os.environ.get(BF16_KERNELS):
        return told == "native"
    return any(needed <= _features(cpuinfo) for needed in BF16)


def kind(cpuinfo: Path = CPUINFO) -> str:
    """The processor in a few words, for people."""
    features = _features(cpuinfo)
    names = (("amx_bf16", "AMX"), ("avx512bw", "AVX-512"), ("avx2", "AVX2"), ("bf16", "bf16"))
    vectors = next((name for feature, name in names if feature in features), "")
    return (
        f"{_model(cpuinfo)}{f' ({vectors})' if vectors else ''}, bf16"
        f" {'native' if has_bf16(cpuinfo) else 'through fp32'}"
    )


@cache
def flops() -> float:
    """fp32 FLOP/s of one core while all are busy, measured here and now in a quarter of a second."""
    import numpy as np

    a = np.ones((SIZE, SIZE), dtype=np.float32)
    seconds = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        a @ a  # numpy's own threads take all cores
        seconds.append(time.perf_counter() - begun)
    return 2.0 * SIZE**3 / statistics.median(seconds) / (os.cpu_count() or 1)


def _features(cpuinfo: Path) -> set[str]:
    return set(_field(cpuinfo, "flags", "Features").split())


def _model(cpuinfo: Path) -> str:
    return _field(cpuinfo, "model name", "CPU implementer") or os.uname().machine


def _field(cpuinfo: Path, *names: str) -> str:
    """The first core's value of the first of these fields."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    values = {name.strip(): value.strip() for name, _, value in reversed([line.partition(":") for line in lines])}
    return next((values[name] for name in names if name in values), "")
