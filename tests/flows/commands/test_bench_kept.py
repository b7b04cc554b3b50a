"""What `imbik bench` measured of a run's models goes into the run's report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.commands.bench_kept import keep
from tasks.latency.result import Bench
from tasks.report.report import write
from tasks.store.runs import read_report
from tests.fixtures.report import report, row
from tests.tasks.report.sections.test_speed import asked


def found(*names: str) -> Bench:
    """A measurement of servers of these names, 10, 20, ... tokens a second."""
    server = dict.fromkeys(("longest", "folder", "cache_tokens", "prefix_cache")) | {"cache": {}, "prompts": "tokens"}
    server |= {"url": "http://here", "engine": "vLLM", "version": "0.32.0"}
    servers = [server | {"name": name.partition("-")[2] or name, "model": name} for name in names]
    rates = [{"median": 10.0 * n, "low": 9.0 * n, "high": 11.0 * n} for n in range(1, len(names) + 1)]
    point = {"isl": 48, "osl": 16, "concurrency": 2, "repetitions": 3}
    summary = [
        point | {"server": one["name"], "figures": {"output_tokens_per_second": rate}}
        for one, rate in zip(servers, rates, strict=True)
    ]
    work: dict[str, Any] = {"lengths": [[48, 16]], "concurrency": [2], "repetitions": 3, "requests": 4, "seed": 1}
    told: dict[str, Any] = {"imbik": "1", "started": "2026-01-01T10:00:00", "client": "here", "complete": True}
    told |= {"workload": work | {"text": "t"}, "servers": servers, "points": [], "summary": summary, "ratios": []}
    return Bench.model_validate(told | {"notes": []})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a finished run of two models."""
    folder = tmp_path / "store" / "runs" / "mine"
    folder.mkdir(parents=True)
    rows = [
        row(name, stage, path=f"{tmp_path}/store/x/{name}/model")
        for name, stage in (("teacher", "teacher"), ("small", "distill"))
    ]
    write(folder, report(*rows, benchmarks=asked("teacher", "small")), {})
    return tmp_path / "store"


def test_models_of_a_run_are_in_its_report(store: Path) -> None:
    named = ["mine/teacher", "http://elsewhere:8000", "mine/small"]
    assert keep(store, named, found("mine-teacher", "elsewhere", "mine-small")) == ["mine"]
    (file,) = (store / "runs" / "mine" / "latency").iterdir()
    assert [one["model"] for one in json.loads(file.read_text())] == ["teacher", "small"]
    speeds = read_report(store / "runs" / "mine").speeds
    assert [(one.model, one.tokens_per_second, one.low, one.high) for one in speeds] == [
        ("teacher", 10.0, 9.0, 11.0),
        ("small", 30.0, 27.0, 33.0),
    ]
    assert {(one.engine, one.isl, one.osl, one.concurrency, one.machine) for one in speeds} == {
        ("vLLM 0.32.0", 48, 16, 2, "here")
    }
    assert (store / "runs" / "mine" / "plots" / "throughput.svg").is_file()


def test_a_second_measurement_is_beside_the_first(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.report.report.refresh", lambda folder: None)
    for hour in ("10", "11"):
        result = found("mine-small").model_copy(update={"started": f"2026-01-01T{hour}:00:00"})
        assert keep(store, ["mine/small"], result) == ["mine"]
    names = sorted(path.name for path in (store / "runs" / "mine" / "latency").iterdir())
    assert names == ["2026-01-01T100000.json", "2026-01-01T110000.json"]


def test_what_is_of_no_run_is_kept_nowhere(store: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert keep(store, ["http://elsewhere:8000", str(tmp_path / "mine"), "tiny@champion"], found("elsewhere")) == []
    assert not (store / "runs" / "mine" / "latency").exists()
