"""Schedules of recipes: cron in a time zone or an interval; Prefect stores them and starts the runs."""

from __future__ import annotations

import asyncio
import difflib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.schedules import Schedule


def schedule_of(cron: str | None, every_minutes: float | None, timezone: str, slug: str) -> Schedule:
    """The schedule of the command line's options. `slug` identifies it for updates. Raises ValueError."""
    from prefect.schedules import Cron, Interval

    if (cron is None) == (every_minutes is None):
        raise ValueError("set exactly one of --cron and --every, for instance --cron '0 2 * * *' or --every 60")
    if timezone not in available_timezones():
        nearest = difflib.get_close_matches(timezone, available_timezones(), n=1, cutoff=0.0)
        raise ValueError(f"--timezone is {timezone!r}, which is not a time zone; did you mean {nearest[0]}?")
    if every_minutes is not None:
        if every_minutes < 1:
            raise ValueError(f"--every is {every_minutes:g} minutes; choose at least 1")
        return Interval(timedelta(minutes=every_minutes), timezone=timezone, slug=slug)
    from prefect.client.schemas.schedules import CronSchedule

    assert cron is not None
    try:
        CronSchedule(cron=cron)
    except ValueError:
        format_hint = "use five fields, minute hour day month weekday, for instance '0 2 * * *' for 02:00 daily"
        raise ValueError(f"--cron is {cron!r}; {format_hint}") from None
    return Cron(cron, timezone=timezone, slug=slug)


def describe(schedule: object) -> str:
    """A schedule as text."""
    if cron := getattr(schedule, "cron", None):
        return f"at '{cron}' ({getattr(schedule, 'timezone', None) or 'UTC'})"
    if interval := getattr(schedule, "interval", None):
        return f"every {interval.total_seconds() / 60:g} minutes"
    return f"by {getattr(schedule, 'rrule', 'another rule')}"


def coming(schedule: Schedule, count: int) -> list[str]:
    """The next times of a schedule, in its time zone."""
    from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule

    zone = ZoneInfo(schedule.timezone or "UTC")
    prefect_schedule: CronSchedule | IntervalSchedule
    if schedule.cron:
        prefect_schedule = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    else:
        assert schedule.interval is not None
        prefect_schedule = IntervalSchedule(interval=schedule.interval, timezone=schedule.timezone)
    return [_local(when, zone) for when in asyncio.run(prefect_schedule.get_dates(count))]


def _local(when: datetime, zone: ZoneInfo | None) -> str:
    return when.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def listed() -> list[tuple[str, str, str, str]]:
    """Every scheduled deployment: name, schedule, next run in its time zone (else this machine's), and number of late
    runs."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    lines = []
    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        for deployment in _scheduled(client.read_deployments()):
            runs = client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
                ),
            )
            active = [] if deployment.paused else [entry for entry in deployment.schedules if entry.active]
            when = "; ".join(describe(entry.schedule) for entry in active) or "paused"
            zones = {zone for entry in active if (zone := getattr(entry.schedule, "timezone", None))}
            zone = ZoneInfo(zones.pop()) if len(zones) == 1 else None
            lines.append(
                (f"{flows[deployment.flow_id]}/{deployment.name}", when, _next(runs, zone), str(_late(runs) or "-"))
            )
    return sorted(lines)


def _scheduled(deployments: list[DeploymentResponse]) -> list[DeploymentResponse]:
    return [deployment for deployment in deployments if deployment.schedules]


def _next(runs: list[FlowRun], zone: ZoneInfo | None) -> str:
    times = [run.next_scheduled_start_time for run in runs if run.next_scheduled_start_time]
    return _local(min(times), zone) if times else "-"


def _late(runs: list[FlowRun]) -> int:
    return sum(run.state is not None and run.state.name == "Late" for run in runs)


def remove(name: str) -> int:
    """Remove a deployment's schedules and their planned runs; returns the number of schedules. Raises ValueError for an
    unknown name."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        scheduled = {f"{flows[each.flow_id]}/{each.name}": each for each in _scheduled(client.read_deployments())}
        deployment = scheduled.get(name) or scheduled.get(f"compress/{name}")
        if deployment is None:
            raise ValueError(
                f"there is no schedule {name}; existing schedules: {', '.join(sorted(scheduled)) or 'none'}"
            )
        for entry in deployment.schedules:
            assert entry.id is not None
            client.delete_deployment_schedule(deployment.id, entry.id)
        return len(deployment.schedules)
