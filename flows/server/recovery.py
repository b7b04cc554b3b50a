"""Cleans up runs that are still marked as running although their processes ended with the last `imbik up`, possibly
when the servers were already down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil

from flows.server.deployments import POOL

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

GONE = "Its process ended with imbik up. Retry continues from the store."


def fail_orphaned_runs() -> int:
    """Set the final state of every such run of the default pool, which frees its deployment for the next run; pending
    runs are rescheduled. Returns the number of running ones. Call before a worker starts."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled, Crashed, Scheduled

    count = 0
    with get_client(sync_client=True) as client:
        for run in _unfinished(client):
            if _alive(run):
                continue
            assert run.state is not None
            final_states: dict[str, Any] = {"RUNNING": Crashed(message=GONE), "CANCELLING": Cancelled(message=GONE)}
            client.set_flow_run_state(run.id, final_states.get(run.state.type.value) or Scheduled(), force=True)
            count += run.state.is_running()
    return count


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
    """Whether the run's process exists on this machine; its pid may have been reused."""
    try:
        environment = psutil.Process(int(run.infrastructure_pid or 0)).environ()
    except (psutil.Error, ValueError):
        return False
    return environment.get("PREFECT__FLOW_RUN_ID", "").replace("-", "") == run.id.hex
