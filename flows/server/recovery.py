"""Runs that the servers still call running though their processes are gone: `imbik up` ends its worker's runs when it
ends, however it ends, and the servers may not have been there to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil

from flows.server.deployments import POOL

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

GONE = "Its process ended with imbik up. Retry goes on from what the store holds."


def fail_orphaned_runs() -> int:
    """Give every such run of the default pool the state it has earned, which also frees its deployment for the next;
    returns how many were running. Call it before a worker is started. What was about to start is planned again."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled, Crashed, Scheduled

    found = 0
    with get_client(sync_client=True) as client:
        for run in _unfinished(client):
            if _alive(run):
                continue
            assert run.state is not None
            ended: dict[str, Any] = {"RUNNING": Crashed(message=GONE), "CANCELLING": Cancelled(message=GONE)}
            client.set_flow_run_state(run.id, ended.get(run.state.type.value) or Scheduled(), force=True)
            found += run.state.is_running()
    return found


def _unfinished(client: Any) -> list[FlowRun]:
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
        WorkPoolFilter,
        WorkPoolFilterName,
    )
    from prefect.client.schemas.objects import StateType

    kinds = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    runs: list[FlowRun] = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=kinds)),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
    )
    return runs


def _alive(run: FlowRun) -> bool:
    """Whether the run's process is still this machine's; its number may be another process's by now."""
    try:
        environment = psutil.Process(int(run.infrastructure_pid or 0)).environ()
    except (psutil.Error, ValueError):
        return False
    return environment.get("PREFECT__FLOW_RUN_ID", "").replace("-", "") == run.id.hex
