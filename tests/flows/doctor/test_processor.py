"""What /proc/cpuinfo says of bf16, and how fast a core is."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from conf.spec import BF16_KERNELS
from flows.doctor import processor

ZEN4 = (
    "model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512bw avx512vl avx512dq\n\nmodel name\t: b\nflags\t: fpu\n"
)


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BF16_KERNELS, raising=False)


def cpuinfo(folder: Path, text: str) -> Path:
    (folder / "cpuinfo").write_text(text)
    return folder / "cpuinfo"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (ZEN4, "AMD EPYC (AVX-512), bf16 native"),
        (ZEN4.replace("fpu", "fpu amx_bf16"), "AMD EPYC (AMX), bf16 native"),
        (ZEN4.replace(" avx512vl", ""), "AMD EPYC (AVX-512), bf16 through fp32"),
        ("model name : old\nflags : fpu avx2", "old (AVX2), bf16 through fp32"),
        ("model name : new\nflags : avx2 avx_ne_convert avx_vnni_int8", "new (AVX2), bf16 native"),
        ("model name : new\nflags : avx2 avx_ne_convert", "new (AVX2), bf16 through fp32"),
        ("CPU implementer : 0x41\nFeatures : fp asimd bf16", "0x41 (bf16), bf16 native"),
        ("CPU implementer : 0x41\nFeatures : bf16", "0x41 (bf16), bf16 native"),
        ("", f"{os.uname().machine}, bf16 through fp32"),
    ],
)
def test_a_processor_has_a_name_and_kernels(text: str, kind: str, tmp_path: Path) -> None:
    assert processor.kind(cpuinfo(tmp_path, text)) == kind
    assert processor.has_bf16(cpuinfo(tmp_path, text)) is kind.endswith("native")


@pytest.mark.parametrize(("said", "has"), [("native", True), ("emulated", False)])
def test_the_environment_decides_first(said: str, has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BF16_KERNELS, said)
    assert processor.has_bf16(cpuinfo(tmp_path, ZEN4)) is has


def test_no_file_is_no_features(tmp_path: Path) -> None:
    assert processor.kind(tmp_path / "none") == f"{os.uname().machine}, bf16 through fp32"


def test_a_cores_speed_is_of_the_median_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 n^3 operations in half a second, on four cores; one product that was disturbed does not count."""

    class Ones:
        def __matmul__(self, other: object) -> None:
            clock[0] += next(lasts)

    clock, lasts = [0.0], iter([9.0] + [0.5] * (processor.TIMES - 1))
    monkeypatch.setitem(sys.modules, "numpy", SimpleNamespace(ones=lambda shape, dtype: Ones(), float32=None))
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert processor.flops.__wrapped__() == 2 * processor.SIZE**3 / 0.5 / 4
