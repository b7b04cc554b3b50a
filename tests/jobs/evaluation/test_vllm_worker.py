"""vLLM in a process of its own: how it is started, what it is asked, and what is told where it fails."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from conf.engines import vllm
from conf.engines.completions import Wanted
from conf.engines.verdict import Contents
from jobs.evaluation import engine, vllm_worker
from jobs.evaluation.vllm_worker import Loading, Vllm
from jobs.runtime import interrupt
from tests.fixtures.answering import play_vllm

WANTED = Wanted(max_tokens=3, temperature=0.5, stops=("Q:",), ends=(2, 5))
LOADING = Loading(precision="bf16", length=9, stops=True)


def opened(folder: Path, version: str | None = "0.32.0", loading: Loading = LOADING) -> Vllm:
    return Vllm(folder, folder, loading, version)


@pytest.fixture(autouse=True)
def unquantized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "contents", lambda directory: Contents())


def heard(folder: Path) -> list[Any]:
    """What the program printed of its requests."""
    return [json.loads(line) for line in (folder / "vllm.log").read_text().splitlines() if line.startswith("{")]


def test_it_is_asked_in_ids_and_answers_in_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_vllm(monkeypatch, tmp_path, [4, 2])
    with opened(tmp_path) as model:
        assert model.texts([[1, 7], [8]], [30, 31], WANTED) == [[4, 2], [4, 2]]
        assert model.scores([[9, 10, 20], [9, 30]], [2, 1]) == pytest.approx([-0.3, -0.3])
        facts = model.facts()
    expected = {"prompts": [[1, 7], [8]], "seeds": [30, 31], "max_tokens": 3, "temperature": 0.5}
    assert heard(tmp_path) == [
        expected | {"stops": ["Q:"], "ends": [2, 5]},
        {"prompts": [[9, 10, 20], [9, 30]], "last": [2, 1]},
    ]
    assert facts == {
        "engine": "vLLM",
        "version": "0.32.0",
        "on_cpu": vllm.runs_on_cpu(vllm_worker.required()),
        "kernels": ["SomeKernel"],
        "cache": "auto",
        "own_cache": True,
    }


def test_letters_after_one_prompt_are_asked_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_vllm(monkeypatch, tmp_path, [])
    prompts, last = [[1, 7], [1, 2, 3], [1, 8], [4, 9], [4, 5]], [1, 2, 1, 1, 2]
    with opened(tmp_path) as model:
        assert model.scores(prompts, last) == pytest.approx([-0.07, -0.05, -0.08, -0.09, -0.09])
        monkeypatch.setattr(vllm_worker, "MOST_LETTERS", 2)
        assert model.scores([[1, 7], [1, 8], [1, 9]], [1, 1, 1]) == pytest.approx([-0.07, -0.08, -0.09])
        assert model.scores([[1, 7], [1, 8]], [1, 1]) == pytest.approx([-0.07, -0.08])
    assert heard(tmp_path) == [
        {"prompts": [[1]], "letters": [[7, 8]]},
        {"prompts": [[1, 2, 3], [4, 9], [4, 5]], "last": [2, 1, 2]},
        {"prompts": [[1, 7], [1, 8], [1, 9]], "last": [1, 1, 1]},
        {"prompts": [[1]], "letters": [[7, 8]]},
    ]


@pytest.mark.parametrize(
    ("on_cpu", "kv", "cache", "own"),
    [(True, None, "auto", True), (True, "fp8", "bfloat16", False), (False, "fp8", "auto", True)],
)
def test_the_cache_is_the_model_s_own_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_cpu: bool, kv: str | None, cache: str, own: bool
) -> None:
    play_vllm(monkeypatch, tmp_path, [])
    monkeypatch.setattr(vllm_worker, "runs_on_cpu", lambda python: on_cpu)
    monkeypatch.setattr(engine, "contents", lambda directory: Contents(algorithms=("FP8",), kv=kv))
    model = opened(tmp_path, loading=Loading(precision="fp32", length=7, stops=False))
    assert model.setup == {
        "model": str(tmp_path),
        "dtype": "float32",
        "cpu": on_cpu,
        "cache": cache,
        "length": 7,
        "tokenizer": False,
    }
    with model:
        assert (model.facts()["cache"], model.facts()["own_cache"]) == (cache, own)


def test_it_gets_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted")
    names = "'HF_TOKEN', 'VLLM_ENABLE_V1_MULTIPROCESSING'"
    play_vllm(monkeypatch, tmp_path, [1], before=f"print(json.dumps({{n: os.environ.get(n) for n in [{names}]}}))")
    with opened(tmp_path) as model:
        model.texts([[1]], [0], WANTED)
    assert heard(tmp_path)[1] == {"HF_TOKEN": None, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_vllm(monkeypatch, tmp_path, [], version="0.33.0")
    with pytest.raises(
        ValueError, match=r"are to be those of vLLM 0\.32\.0, but .* has 0\.33\.0; set evaluate\.engine"
    ):
        opened(tmp_path).__enter__()
    with opened(tmp_path, version=None) as model:
        assert model.facts()["version"] == "0.33.0"


def test_a_model_that_it_does_not_load_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_vllm(monkeypatch, tmp_path, [])
    monkeypatch.setattr(engine, "contents", lambda directory: Contents(algorithms=("W4A16_AWQ",)))
    with pytest.raises(ValueError, match=r"cannot be asked in vLLM: vLLM refuses the algorithm \(W4A16_AWQ\); set"):
        opened(tmp_path)


def test_a_failing_engine_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_vllm(monkeypatch, tmp_path, [], before="raise RuntimeError('no such kernel')")
    told = r"vLLM did not answer for .*: RuntimeError: no such kernel; its whole"
    with opened(tmp_path) as model, pytest.raises(ValueError, match=told):
        model.texts([[1]], [0], WANTED)


def test_a_killed_engine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_vllm(monkeypatch, tmp_path, [], before="os.kill(os.getpid(), 9)")
    with opened(tmp_path) as model, pytest.raises(ValueError, match="it was ended by SIGKILL"):
        model.texts([[1]], [0], WANTED)


def test_an_engine_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_vllm(monkeypatch, tmp_path, []).write_text("import no_vllm_here")
    with pytest.raises(ValueError, match="ModuleNotFoundError: No module named 'no_vllm_here'"):
        opened(tmp_path).__enter__()


def test_no_engine_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_vllm(monkeypatch, tmp_path, [], before="import time; time.sleep(600)")
    monkeypatch.setattr(vllm_worker, "SECONDS", 0.05)
    with opened(tmp_path) as model:
        assert os.getsid(model.process.pid) == model.process.pid, "a signal to the job's processes does not reach it"
        assert model.process.stdin is not None
        model.process.stdin.write('{"prompts": []}\n')
        model.process.stdin.flush()
    assert not psutil.pid_exists(model.process.pid)


def test_without_an_engine_the_next_step_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(vllm.PYTHON, raising=False)
    monkeypatch.setattr(vllm, "OWN", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"evaluate\.engine vllm needs vLLM .* or set evaluate\.engine to simulate"):
        opened(tmp_path)


def test_the_program_of_the_engine_is_there() -> None:
    assert vllm_worker.PROGRAM.is_file()


def test_a_job_that_is_to_stop_ends_a_busy_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_vllm(monkeypatch, tmp_path, [4], before="__import__('time').sleep(600)")
    monkeypatch.setattr(vllm_worker, "PATIENCE", 0.05)
    terminated = threading.Event()
    monkeypatch.setattr(interrupt._stop, "terminated", terminated)
    with (
        interrupt.stoppable(lambda: "with 3 of 9"),
        pytest.raises(interrupt.Interrupted, match="stopped with 3 of 9"),
        opened(tmp_path) as model,
    ):
        process = model.process
        terminated.set()
        model.texts([[1]], [1], WANTED)
    assert process.poll() == -signal.SIGKILL
