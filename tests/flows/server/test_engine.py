"""The command that starts vLLM for a model, and servers for several."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.server import engine
from tests.fixtures.model import write_model

PYTHON = Path("/opt/vllm/bin/python")


def after(line: list[str], option: str) -> str:
    return line[line.index(option) + 1]


@pytest.mark.parametrize("on_cpu", [True, False])
def test_a_server_takes_a_share_of_a_gpu_or_no_kernels(
    on_cpu: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "runs_on_cpu", lambda _: on_cpu)
    model = write_model(tmp_path / "model")
    line = engine.command(PYTHON, model, "tiny", 8123, 0.45)
    assert line[0] == str(PYTHON) and after(line, "--model") == str(model)
    assert after(line, "--port") == "8123" and after(line, "--host") == "127.0.0.1"
    assert after(line, "--served-model-name") == "tiny" and "--no-enable-prefix-caching" in line
    assert after(line, "--tensor-parallel-size") == "1"
    if on_cpu:
        assert Path(after(line, "-P")).is_file() and "--enforce-eager" in line
        assert "--gpu-memory-utilization" not in line
    else:
        assert after(line, "-m") == engine.MODULE and after(line, "--gpu-memory-utilization") == "0.45"
        assert "--enforce-eager" not in line


def test_a_started_engine_sees_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("PLAIN_NAME", "v")
    given: list[Any] = []

    @contextlib.contextmanager
    def process(command: list[str], environment: dict[str, str], log: Path, *, tree: bool) -> Any:
        given.extend([command, environment, tree])
        yield "running"

    monkeypatch.setattr(engine, "process", process)
    with engine.starting(["x"], 81, tmp_path / "log") as server:
        assert server.url == "http://127.0.0.1:81" and server.log == tmp_path / "log"
    command, environment, tree = given
    assert command == ["x"] and tree, "its own children end with it"
    assert environment["OPENAI_API_KEY"] == "" and "PLAIN_NAME" not in environment


def test_servers_share_the_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[tuple[str, int, float, str]] = []
    ports = iter([81, 82, 83])
    monkeypatch.setattr(engine, "interpreter", lambda: PYTHON)
    monkeypatch.setattr(engine, "free_port", lambda: next(ports))
    monkeypatch.setattr(engine, "command", lambda python, path, name, port, share: [name, port, share])
    monkeypatch.setattr(engine, "kernels", lambda log: (log.name,))

    @contextlib.contextmanager
    def starting(line: list[Any], port: int, log: Path) -> Any:
        started.append((line[0], port, line[2], log.name))
        yield SimpleNamespace(ready=lambda seconds: f"http://{port}/{seconds >= 600}", log=log)

    monkeypatch.setattr(engine, "starting", starting)
    models = [(tmp_path, name) for name in ("a", "b", "c")]
    with engine.serving_all(models, tmp_path / "logs") as served:
        assert served[0] == ("http://81/True", ("vllm-1.log",)) and len(served) == 3
    assert started == [
        ("a", 81, 0.9 / 3, "vllm-1.log"),
        ("b", 82, 0.9 / 3, "vllm-2.log"),
        ("c", 83, 0.9 / 3, "vllm-3.log"),
    ]
    with engine.serving_all([], tmp_path / "logs") as served:
        assert served == [], "the folder may be there"


def test_a_model_needs_vllm_to_serve_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "interpreter", lambda: None)
    served = engine.serving_all([(tmp_path, "tiny")], tmp_path / "logs")
    with pytest.raises(ValueError, match="tiny is a model, not a server, and vLLM is not installed"):
        served.__enter__()
    with engine.serving_all([], tmp_path / "logs") as none:
        assert none == []
