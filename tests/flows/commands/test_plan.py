"""The totals below a plan's tables, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conf.estimate.numbers import StageEstimate
from flows.commands import plan
from flows.doctor import processor


def stage(label: str = "a", cached: bool = False, against: str = "", **sizes: Any) -> Any:
    numbers = StageEstimate(disk=sizes.get("disk"), scratch=sizes.get("scratch"))
    planned = SimpleNamespace(label=label, cached=cached, against=against)
    gpus, hours = sizes.get("gpus", 0), sizes.get("gpu_hours")
    return SimpleNamespace(stage=planned, numbers=numbers, gpus=gpus, gpu_hours=hours)


def test_disk_is_added_up_and_checkpoints_are_not() -> None:
    told = plan._about([stage(disk=2 * 10**9, scratch=10**9), stage(disk=10**9, scratch=3 * 10**9), stage()])
    assert told.startswith("memory is the estimated peak over all processes of a job")
    assert "3 GB in total where known, and up to 3 GB more for checkpoints" in told
    assert "0 B in total where known, and up to 0 B more" in plan._about([])
    assert plan._about([stage(against="first")]).startswith("what differs: from the run first; memory is")


def test_hours_of_stages_that_run_add_up() -> None:
    stages = [stage(gpus=8, gpu_hours=80.0), stage(gpus=2, gpu_hours=40.0), stage(gpus=1, gpu_hours=500.0, cached=True)]
    assert "120 GPU-hours, 30.0 h if stages run one after another" in plan._about([*stages, stage()])
    assert "GPU-hours" not in plan._about(stages[2:])


def test_time_on_this_machine_is_shared_by_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(processor, "flops", lambda: 2.5e10)
    stages = [stage("a"), stage("b"), stage("c", cached=True), stage("d")]
    told = plan._about_cpu(stages, {"a": 4 * 3600.0, "b": 4 * 3600.0, "c": 1e9})
    assert told.startswith("4 cores of ") and "25 GFLOP/s in fp32 each" in told
    assert "stages with a time take about 2.0 h on all cores" in told
