"""Whether a run's process is still there, by its pid and the run's id in its environment."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from flows.server import recovery

RUN = uuid.UUID(int=7)


def run(pid: int | None = 12) -> Any:
    return SimpleNamespace(id=RUN, infrastructure_pid=pid)


@pytest.mark.parametrize(
    ("environment", "alive"),
    [
        ({"PREFECT__FLOW_RUN_ID": str(RUN)}, True),
        ({"PREFECT__FLOW_RUN_ID": RUN.hex}, True),
        ({"PREFECT__FLOW_RUN_ID": str(uuid.UUID(int=8))}, False),
        ({}, False),
    ],
)
def test_a_reused_pid_is_another_process(
    environment: dict[str, str], alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def process(pid: int) -> Any:
        asked.append(pid)
        return SimpleNamespace(environ=lambda: environment)

    monkeypatch.setattr(psutil, "Process", process)
    assert recovery._alive(run()) == alive
    recovery._alive(run(None))
    assert asked == [12, 0]


def test_a_process_that_is_gone_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int) -> Any:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", gone)
    assert not recovery._alive(run())
