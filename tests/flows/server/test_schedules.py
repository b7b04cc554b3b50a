"""Schedules as they are asked for and told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flows.server import schedules


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
