"""Schedules as they are asked for and told."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from flows.server import schedules

FLOW = UUID(int=1)


@pytest.mark.parametrize(
    ("cron", "every", "zone", "sentence"),
    [
        (None, None, "UTC", "set exactly one of --cron and --every"),
        ("0 2 * * *", 60.0, "UTC", "set exactly one of --cron and --every"),
        (None, 60.0, "Europe/Berlim", "did you mean Europe/Berlin"),
        (None, 0.5, "UTC", "--every is 0.5 minutes; choose at least 1"),
        ("at two", None, "UTC", "--cron is 'at two'; use five fields"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(cron: str | None, every: float | None, zone: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        schedules.schedule_of(cron, every, zone, "s")


def test_a_schedule_is_told_as_it_was_asked_for() -> None:
    daily, often = (
        schedules.schedule_of("0 2 * * *", None, "Europe/Berlin", "s"),
        schedules.schedule_of(None, 1, "UTC", "s"),
    )
    assert schedules.describe(daily) == "at '0 2 * * *' (Europe/Berlin)"
    assert schedules.describe(often) == "every 1 minutes"
    assert schedules.describe(SimpleNamespace(interval=timedelta(minutes=90))) == "every 90 minutes"
    assert schedules.describe(SimpleNamespace(rrule="R")) == "by R"
    assert [time.split()[1] for time in schedules.coming(daily, 3)] == ["02:00"] * 3


def test_the_next_run_is_the_earliest() -> None:
    def run(hour: int | None, state: str = "Scheduled") -> Any:
        when = datetime(2026, 7, 1, hour, tzinfo=UTC) if hour is not None else None
        return SimpleNamespace(next_scheduled_start_time=when, state=SimpleNamespace(name=state))

    runs = [run(9), run(3, "Late"), run(None, "Late")]
    assert schedules._next(runs, ZoneInfo("Europe/Berlin")) == "2026-07-01 05:00 CEST"
    assert schedules._next(runs[2:], None) == "-"
    assert schedules._late(runs) == 2
    assert schedules._late([SimpleNamespace(state=None)]) == 0  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("zones", "told"),
    [(["Europe/Berlin"], "2026-07-01 05:00 CEST"), (["Europe/Berlin", "Asia/Tokyo"], None), ([], None)],
)
def test_a_run_is_told_in_the_one_zone_of_its_schedules(
    zones: list[str], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import prefect.client.orchestration

    run = SimpleNamespace(
        next_scheduled_start_time=datetime(2026, 7, 1, 3, tzinfo=UTC), state=SimpleNamespace(name="Scheduled")
    )
    entries = [
        SimpleNamespace(active=True, schedule=schedules.schedule_of("0 5 * * *", None, zone, "s")) for zone in zones
    ]
    paused = SimpleNamespace(active=False, schedule=None)
    deployment = SimpleNamespace(id=FLOW, flow_id=FLOW, name="nightly", paused=False, schedules=[*entries, paused])
    client = SimpleNamespace(
        read_flows=lambda: [SimpleNamespace(id=FLOW, name="compress")],
        read_deployments=lambda: [deployment, SimpleNamespace(schedules=[])],
        read_flow_runs=lambda **_: [run],
    )
    monkeypatch.setattr(prefect.client.orchestration, "get_client", lambda sync_client: contextlib.nullcontext(client))
    ((name, when, following, late),) = schedules.listed()
    assert (name, late) == ("compress/nightly", "-")
    assert when.count("'0 5 * * *'") == len(zones) and (when == "paused") == (not zones)
    assert following == told or (told is None and following.startswith(("2026-07-01", "2026-06-30")))
