"""Whether a run's process is still there, by its pid and the run's id in its environment."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any, Self

import psutil
import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelling, Pending, Running

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


class Server:
    """Prefect's client, with unfinished runs of these states; what it is told of each."""

    def __init__(self, *states: State) -> None:
        self.runs = [FlowRun(id=uuid.UUID(int=n), flow_id=RUN, state=state) for n, state in enumerate(states)]
        self.told: dict[int, tuple[str, str | None, bool]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def read_flow_runs(self, *, flow_run_filter: Any, work_pool_filter: Any) -> list[FlowRun]:
        assert {kind.value for kind in flow_run_filter.state.type.any_} == {"PENDING", "RUNNING", "CANCELLING"}
        assert work_pool_filter.name.any_ == ["imbik"]
        return self.runs

    def set_flow_run_state(self, run: uuid.UUID, state: State, force: bool = False) -> None:
        self.told[run.int] = state.type.value, state.message, force


def test_runs_without_a_process_get_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(Running(), Pending(), Cancelling(), Running(), Running())

    def get_client(*, sync_client: bool) -> Server:
        assert sync_client
        return server

    monkeypatch.setattr("prefect.client.orchestration.get_client", get_client)
    monkeypatch.setattr(recovery, "_alive", lambda run: run.id.int == 4)
    assert recovery.fail_orphaned_runs() == 2, "those that were running"
    assert server.told == {  # forced: a server refuses a run's way from its end to another state
        0: ("CRASHED", recovery.GONE, True),
        1: ("SCHEDULED", None, True),
        2: ("CANCELLED", recovery.GONE, True),
        3: ("CRASHED", recovery.GONE, True),
    }


def test_a_process_that_is_gone_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int) -> Any:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", gone)
    assert not recovery._alive(run())
