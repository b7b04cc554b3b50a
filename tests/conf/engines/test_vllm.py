"""Where vLLM is, its version without starting it, and what is told where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conf.engines import vllm
from conf.engines.asked import AnsweredBy
from conf.secrets import needed
from conf.stages.answer import AnswerConfig


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
