"""Which Python has vLLM, where it computes, and the kernels that its log names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conf.engines import vllm


def test_the_named_python_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vllm, "OWN", Path(sys.executable))
    monkeypatch.delenv(vllm.PYTHON, raising=False)
    assert vllm.interpreter() == vllm.required() == Path(sys.executable)
    named = tmp_path / "python"
    named.write_text("#!/bin/sh\n")
    monkeypatch.setenv(vllm.PYTHON, str(named))
    with pytest.raises(ValueError, match=f"{vllm.PYTHON} is {named}, which is no program; name the Python"):
        vllm.interpreter()
    named.chmod(0o700)
    assert vllm.interpreter() == named


def test_without_any_the_next_step_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vllm, "OWN", tmp_path / "none")
    monkeypatch.delenv(vllm.PYTHON, raising=False)
    assert vllm.interpreter() is None
    with pytest.raises(ValueError, match="run make engine there"):
        vllm.required()


@pytest.mark.parametrize(("driver", "gpu"), [(None, False), ("/usr/bin/nvidia-smi", True)])
def test_only_other_builds_use_a_gpu(driver: str | None, gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/dev/kfd").exists():
        pytest.skip("this machine has one of AMD's GPUs")
    monkeypatch.setattr(vllm.shutil, "which", lambda name: driver)
    assert vllm.has_gpu() is gpu
    assert vllm.runs_on_cpu(vllm.OWN) is True
    assert vllm.runs_on_cpu(Path("/other/python")) is not gpu


def test_make_engine_installs_in_this_repository() -> None:
    root = Path(__file__).parents[3]
    assert vllm.OWN.relative_to(root) == Path("build/engine/bin/python")


def test_each_kernel_of_a_log_is_named_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(
        b"Using MarlinKernel for A\n\xff\nSelected CutlassKernel for B\nUsing MarlinKernel for C\nUsing x\n"
    )
    assert vllm.kernels(log) == ("CutlassKernel", "MarlinKernel")
