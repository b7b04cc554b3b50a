"""What the sampler of processor, memory and GPUs writes, with processes and GPUs made by hand."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from jobs.runtime import system_metrics
from jobs.runtime.system_metrics import Sampler


class Process:
    """A process with given seconds of processor time (user, system) and resident bytes."""

    def __init__(self, pid: int, user: float, system: float, rss: int, children: list[Process] | None = None) -> None:
        self.pid, self.user, self.system, self.rss, self.below = pid, user, system, rss, children or []

    def cpu_times(self) -> Any:
        return SimpleNamespace(user=self.user, system=self.system)

    def memory_info(self) -> Any:
        return SimpleNamespace(rss=self.rss)

    def children(self, recursive: bool) -> list[Process]:
        assert recursive
        return self.below


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """NVML of a machine with some GPUs, of which number n uses n + 1 GB."""

    def memory(number: int) -> Any:
        return pynvml.c_nvmlMemory_t(total=80 * 10**9, free=1, used=(number + 1) * 10**9)

    module = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetMemoryInfo=memory,
        nvmlDeviceGetUtilizationRates=lambda number: pynvml.c_nvmlUtilization_t(gpu=50 + number, memory=1),
        nvmlDeviceGetPowerUsage=lambda number: ctypes.c_uint(250_500).value,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)


@pytest.fixture
def sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sampler]:
    """Makes samplers of a process and its child."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(gpu_count: int = 0) -> Sampler:
        gpus(monkeypatch, gpu_count)
        made = Sampler(tmp_path / "system.jsonl", "system/")
        child: Any = Process(8, 1.0, 0.5, 3_000_000)
        root: Any = Process(7, 10.0, 2.0, 5_000_000, [child])
        made.root = root
        return made

    return make


def lines(sampler: Sampler) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sampler.path.read_text().splitlines()]


def test_load_is_of_all_processes_since_the_last_look(sampler: Callable[..., Sampler]) -> None:
    job = sampler()
    job._measure(1.0)
    root: Any = job.root
    root.user, root.system, root.below[0].user = 11.0, 3.0, 2.0
    job.write(5, 2.0)
    (line,) = lines(job)
    assert line["values"] == {
        "system/cpu_utilization_percentage": 150.0,  # three seconds of two
        "system/system_memory_usage_megabytes": 8.0,
    }
    assert (line["step"], line["total"]) == (5, None)


def test_a_new_process_counts_from_its_start(sampler: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch) -> None:
    job, now = sampler(), [1000.0]
    monkeypatch.setattr(system_metrics.time, "monotonic", lambda: now[0])
    job._measure(1.0)
    root: Any = job.root
    root.below.append(Process(9, 1.25, 0.5, 0))
    now[0] += system_metrics.LIST_SECONDS + 1
    assert job._measure(1.0)["cpu_utilization_percentage"] == 175.0


def test_figures_have_two_decimals(sampler: Callable[..., Sampler]) -> None:
    job = sampler()
    job._measure(1.0)
    root: Any = job.root
    root.user += 1.23456
    job.write(1, 1.0)
    assert lines(job)[0]["values"]["system/cpu_utilization_percentage"] == 123.46


def test_processes_are_searched_again_after_a_while(
    sampler: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, now = sampler(), [1000.0]
    monkeypatch.setattr(system_metrics.time, "monotonic", lambda: now[0])
    job._measure(1.0)
    root: Any = job.root
    root.below = []
    now[0] += system_metrics.LIST_SECONDS
    assert job._measure(1.0)["system_memory_usage_megabytes"] == 8.0
    now[0] += 1
    assert job._measure(1.0)["system_memory_usage_megabytes"] == 5.0


def test_gpus_are_told_in_percent_megabytes_and_watts(sampler: Callable[..., Sampler]) -> None:
    job = sampler(2)
    job.write(1, 1.0)
    values = lines(job)[0]["values"]
    assert {name: value for name, value in values.items() if "gpu" in name} == {
        "system/gpu_0_utilization_percentage": 50.0,
        "system/gpu_0_memory_usage_megabytes": 1000.0,
        "system/gpu_0_power_usage_watts": 250.5,
        "system/gpu_1_utilization_percentage": 51.0,
        "system/gpu_1_memory_usage_megabytes": 2000.0,
        "system/gpu_1_power_usage_watts": 250.5,
    }


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, [0, 1, 2]), ("2,0", [2, 0]), ("1, 7", [1]), ("", [0, 1, 2]), ("GPU-uuid", [])]
)
def test_only_visible_gpus_are_sampled(
    visible: str | None, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert system_metrics._gpus() == expected


def test_seconds_go_on_after_a_torn_line(sampler: Callable[..., Sampler]) -> None:
    job = sampler()
    assert job._read_seconds_before() == 0
    whole = '{"step": 3}\n{"step": 17}\n'
    job.path.write_text(whole + '{"st')
    assert job._read_seconds_before() == 17
    assert job.path.read_text() == whole


def test_samples_are_written_until_the_end(sampler: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every five seconds, every thirty from the tenth minute on, and once more at the end; with a clock made by
    hand."""
    job, now, waits = sampler(), [100.0], list[float]()
    monkeypatch.setattr(system_metrics.time, "monotonic", lambda: now[0])
    job.path.write_text('{"step": 40}\n')

    class Stop:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            now[0] += 0.1 if len(waits) == 1 else 300.0
            return len(waits) == 5

    stop: Any = Stop()
    job.run(stop)
    assert waits == [5.0, 5.0, 5.0, 30.0, 30.0]
    assert [line["step"] for line in lines(job)] == [40, 41, 340, 640, 940, 1240]


@pytest.mark.parametrize(
    ("environment", "name", "prefix"),
    [
        ({}, "system.jsonl", "system/"),
        ({"GROUP_RANK": "1"}, "system-1.jsonl", "system/node_1/"),
        ({"LOCAL_RANK": "1"}, None, ""),
    ],
)
def test_one_process_of_a_node_samples(
    environment: dict[str, str], name: str | None, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("LOCAL_RANK", "GROUP_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with system_metrics.sampling(tmp_path):
        pass
    written = list(tmp_path.iterdir())
    assert [path.name for path in written] == ([name] if name else [])
    if name:
        values = json.loads(written[0].read_text().splitlines()[0])["values"]
        assert all(key.startswith(prefix) for key in values) and f"{prefix}cpu_utilization_percentage" in values


@pytest.mark.parametrize(("ranks", "own"), [(None, True), ("1", True), ("2", False)])
def test_several_ranks_are_sampled_from_their_agent(
    ranks: str | None, own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if ranks:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert Sampler(tmp_path / "system.jsonl", "").root.pid == (os.getpid() if own else os.getppid())
