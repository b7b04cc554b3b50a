"""Which Python has vLLM, its version without starting it, where it computes, and the kernels that its log names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conf.engines import vllm
from conf.engines.asked import AnsweredBy
from conf.secrets import needed
from conf.stages.answer import AnswerConfig


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


def test_the_version_is_that_of_the_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('it takes a minute')")
    (package / "_version.py").write_text("__version__ = '9.8.7'")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert vllm.version(python) == "9.8.7"


def test_an_interpreter_without_it_is_told() -> None:
    with pytest.raises(ValueError, match=r" has no vLLM; name the Python of an environment with vLLM in IMBIK_VLLM"):
        vllm.version(Path(sys.executable))


@pytest.mark.parametrize(("says", "code"), [("0.32", 3), ("", 0)])
def test_an_interpreter_that_fails_or_is_silent_has_none(says: str, code: int, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {says}\nexit {code}\n")
    python.chmod(0o755)
    with pytest.raises(ValueError, match=f"^{python} has no vLLM"):
        vllm.version(python)


def test_what_needs_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(vllm.PYTHON, raising=False)
    monkeypatch.setattr(vllm, "OWN", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"^verify needs vLLM where its jobs run; .* or set verify to null$"):
        vllm.required()
    with pytest.raises(ValueError, match=r"^that needs vLLM where its jobs run; .* or do this$"):
        vllm.required("that", "do this")
    monkeypatch.setenv(vllm.PYTHON, sys.executable)
    assert vllm.required() == Path(sys.executable)


def test_a_job_sees_the_key_of_its_server() -> None:
    by = AnsweredBy(name="endpoint", endpoint="http://a", model="a", api_key_env="MY_KEY")
    environment = {"MY_KEY": "opensesame", "OTHER_KEY": "closed"}
    assert needed(False, AnswerConfig(engine=by).model_dump(mode="json"), environment) == {"MY_KEY": "opensesame"}
