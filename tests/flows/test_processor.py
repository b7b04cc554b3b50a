"""Which kind of processor this is, told without torch and as torch sees it."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from conf.spec import BF16_KERNELS
from flows.doctor import processor


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ("flags\t\t: fma avx2 f16c", "Some CPU (AVX2), bf16 through fp32"),
        ("flags\t\t: avx2 avx512f avx512bw avx512vl avx512dq", "Some CPU (AVX-512), bf16 native"),
        ("flags\t\t: avx2 avx512f avx512bw avx512vl avx512dq amx_bf16", "Some CPU (AMX), bf16 native"),
        ("flags\t\t: avx2 avx512f", "Some CPU (AVX2), bf16 through fp32"),
        ("flags\t\t: avx2 avx_ne_convert avx_vnni_int8", "Some CPU (AVX2), bf16 native"),
        ("Features\t: fp asimd bf16", "Some CPU (bf16), bf16 native"),
        ("flags\t\t: sse2", "Some CPU, bf16 through fp32"),
    ],
)
def test_the_kind_follows_from_the_features(
    features: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BF16_KERNELS, raising=False)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: Some CPU\n{features}\n\nprocessor\t: 1\nmodel name\t: Other\n")
    assert processor.kind(cpuinfo) == told


def test_this_machine_is_seen_as_torch_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.runtime import bf16

    monkeypatch.delenv(BF16_KERNELS, raising=False)
    assert processor.has_bf16() == bf16.has_kernels()
    for told in ("native", "fp32"):
        monkeypatch.setenv(BF16_KERNELS, told)
        assert processor.has_bf16() == bf16.has_kernels() == (told == "native")


def test_a_machine_that_tells_nothing_is_not_a_fault(tmp_path: Path) -> None:
    assert processor.kind(tmp_path / "absent").endswith("bf16 through fp32")
    assert processor.flops() > 1e8


@pytest.mark.parametrize(("cores", "each"), [(4, 4), (1, 1), (None, 1)])
def test_flops_are_a_matrix_product_over_its_time(
    cores: int | None, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A product of n x n matrices takes n^3 multiplications and as many additions; here each takes half a second."""
    monkeypatch.setattr(processor, "SIZE", 16)
    monkeypatch.setattr(time, "perf_counter", itertools.count(100.0, 0.5).__next__)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert processor.flops.__wrapped__() == (16**3 + 16**3) / 0.5 / each


def test_a_processor_without_a_name_is_called_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags\t: avx2\n")
    assert processor.kind(tmp_path / "cpuinfo") == f"{os.uname().machine} (AVX2), bf16 through fp32"
