"""Properties of this machine's CPU that determine the speed of jobs: bf16 kernels and fp32 throughput."""

from __future__ import annotations

import os
import statistics
import time
from functools import cache
from pathlib import Path

from conf.spec import BF16_KERNELS

CPUINFO = Path("/proc/cpuinfo")
BF16 = ({"avx512f", "avx512bw", "avx512vl", "avx512dq"}, {"avx_ne_convert", "avx_vnni_int8"}, {"bf16"})
"""CPU features that enable oneDNN's bf16 kernels; one set is enough: AVX-512 (and AMX), AVX2 with VNNI-2, ARM bf16."""
SIZE, TIMES = 1024, 10


def has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether torch has bf16 vector kernels on this CPU, unless overridden by BF16_KERNELS. Jobs ask torch itself."""
    if kernels := os.environ.get(BF16_KERNELS):
        return kernels == "native"
    return any(needed <= _features(cpuinfo) for needed in BF16)


def kind(cpuinfo: Path = CPUINFO) -> str:
    """Display name of the CPU."""
    features = _features(cpuinfo)
    names = (("amx_bf16", "AMX"), ("avx512bw", "AVX-512"), ("avx2", "AVX2"), ("bf16", "bf16"))
    vectors = next((name for feature, name in names if feature in features), "")
    return (
        f"{_model(cpuinfo)}{f' ({vectors})' if vectors else ''}, bf16"
        f" {'native' if has_bf16(cpuinfo) else 'through fp32'}"
    )


@cache
def flops() -> float:
    """Measure the fp32 FLOP/s of one core while all are busy; takes a quarter of a second."""
    import numpy as np

    a = np.ones((SIZE, SIZE), dtype=np.float32)
    seconds = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        a @ a  # numpy uses all cores
        seconds.append(time.perf_counter() - begun)
    return 2.0 * SIZE**3 / statistics.median(seconds) / (os.cpu_count() or 1)


def _features(cpuinfo: Path) -> set[str]:
    return set(_field(cpuinfo, "flags", "Features").split())


def _model(cpuinfo: Path) -> str:
    return _field(cpuinfo, "model name", "CPU implementer") or os.uname().machine


def _field(cpuinfo: Path, *names: str) -> str:
    """Value for the first core of the first of these fields."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    values = {name.strip(): value.strip() for name, _, value in reversed([line.partition(":") for line in lines])}
    return next((values[name] for name in names if name in values), "")
