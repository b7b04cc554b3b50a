"""What a rank tells of its machine, and the bandwidth between ranks, with a GPU and a network made by hand."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.spec import Spec
from jobs import doctor
from tests.fixtures.clock import Clock


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Slurm and without a Python for vLLM."""
    for name in ("WORLD_SIZE", "SLURMD_NODENAME", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor.vllm, "interpreter", lambda: None)


def told(output: Path, token: str) -> dict[str, Any]:
    config = {"packages": ["torch", "no-such-package"], "token": token}
    doctor.run(Spec(stage="doctor", key="k", config=config, output=str(output)))
    found: dict[str, Any] = json.loads((output / "doctor.json").read_text())
    return found


def test_a_rank_alone_tells_of_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=12_345_678_901))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5})
    (tmp_path / "probe").write_text("secret")
    found = told(tmp_path, "secret")
    assert (found["bandwidth_gb_s"], found["backend"]) == (None, None)
    (rank,) = found["ranks"]
    assert rank["node"] == socket.gethostname() and rank["python"].count(".") == 2
    assert (rank["cpus"], rank["free_gb"], rank["store"], rank["vllm"]) == (3, 12.3, True, None)
    assert list(rank["versions"]) == ["torch"]


@pytest.mark.parametrize("content", [None, "other"])
def test_a_store_that_is_not_shared_is_told(content: str | None, tmp_path: Path) -> None:
    if content:
        (tmp_path / "probe").write_text(content)
    assert told(tmp_path, "secret")["ranks"][0]["store"] is False


def test_the_gpu_of_a_rank_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("SLURMD_NODENAME", "node-7")
    gpus = [SimpleNamespace(name=f"GPU {number}", total_memory=85_049_000_000 + number) for number in range(2)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    rank = doctor._rank_report(tmp_path, [], "")
    assert rank["gpu"] == {"name": "GPU 1", "memory_gb": 85.0, "seen": 2} and rank["node"] == "node-7"


@pytest.mark.parametrize(("ranks", "expected"), [(2, 0.671), (4, 1.007)])
def test_bandwidth_is_that_of_nccl_tests(ranks: int, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB in 0.1 s, the middle of five measurements after one that sets up connections: 0.671 GB/s, times
    2 (n - 1) / n."""
    clock, seconds = Clock(), iter([9.0, 0.1, 3.0, 0.01, 5.0, 0.02])

    def all_reduce(data: torch.Tensor) -> None:
        assert data.numel() * data.element_size() == 67_108_864
        clock.sleep(next(seconds))

    monkeypatch.setattr(doctor.time, "perf_counter", clock.monotonic)
    monkeypatch.setattr(doctor.dist, "barrier", lambda: None)
    monkeypatch.setattr(doctor.dist, "all_reduce", all_reduce)
    assert doctor._bandwidth(ranks, torch.device("cpu")) == expected
    assert next(seconds, None) is None
