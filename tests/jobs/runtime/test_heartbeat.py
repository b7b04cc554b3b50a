"""The pulse of a rank, what counts as progress, and how long ranks are given."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conf.spec import HANG_SECONDS, HANG_SECONDS_DEFAULT
from jobs.runtime import heartbeat


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float, float]]:
    """The watchdogs that would have been started: ranks, deadline and period."""
    started: list[tuple[int, float, float]] = []

    @contextmanager
    def watchdog(output: Path, ranks: int, deadline: float, period: float) -> Iterator[None]:
        started.append((ranks, deadline, period))
        yield

    monkeypatch.setattr(heartbeat, "_watchdog", watchdog)
    monkeypatch.setattr(heartbeat.faulthandler, "register", lambda number, **_: started.append((number, 0, 0)))
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return started


def told(output: Path, rank: int = 0) -> list[str]:
    return (output / "heartbeats" / f"rank-{rank}").read_text().split()


@pytest.mark.parametrize(("hang", "period"), [("8", 1.0), ("0.1", 0.05), ("400", 10.0), ("", 10.0)])
def test_a_pulse_is_an_eighth_of_the_deadline(
    hang: str, period: float, beside: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HANG_SECONDS, hang)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with heartbeat.monitored(tmp_path):
        pass
    assert beside == [(signal.SIGUSR1, 0, 0), (4, float(hang or HANG_SECONDS_DEFAULT), period)]
    assert list(tmp_path.iterdir()) == [], "what is over leaves nothing"


def test_only_rank_0_has_a_watchdog(beside: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with heartbeat.monitored(tmp_path):
        assert told(tmp_path, 1)[1] == str(os.getpid())
    assert [entry[0] for entry in beside] == [signal.SIGUSR1]


def test_without_a_deadline_nothing_is_watched(
    beside: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HANG_SECONDS, "0")
    with heartbeat.monitored(tmp_path):
        heartbeat.report_progress()
    assert beside == [] and list(tmp_path.iterdir()) == []


def test_a_pulse_tells_progress_and_who_it_is(beside: list[Any], tmp_path: Path) -> None:
    with heartbeat.monitored(tmp_path):
        pulse: Any = heartbeat._pulse
        start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        identity = [str(os.getpid()), str(os.getpid()), start, os.uname().nodename]
        assert told(tmp_path) == [*identity, "0", "0", "1"]
        heartbeat.report_progress()
        heartbeat.report_progress()
        with heartbeat.paused():
            pulse._write()
            assert told(tmp_path) == [*identity, "0", "2", "0"]
        pulse._write()
        assert told(tmp_path) == [*identity, "0", "3", "1"]
    heartbeat.report_progress()
    with heartbeat.paused():
        pass
    assert (pulse.progress, pulse.expected) == (3, True), "what is over counts nothing"


def test_pulses_are_counted(tmp_path: Path) -> None:
    pulse = heartbeat._Pulse(tmp_path / "rank-0", 60.0)
    waits = iter([False, False, True])
    finished: Any = pulse._finished
    pulse._finished.wait = lambda period=None: next(waits)  # type: ignore[method-assign]
    pulse._run()
    assert (tmp_path / "rank-0").read_text().split()[4] == "2"
    finished.set()


@pytest.mark.parametrize(("hang", "seconds"), [(None, 3600), ("0", 3600), ("1800", 3600), ("5000", 10_000)])
def test_ranks_wait_longer_than_a_hang_takes(hang: str | None, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HANG_SECONDS, raising=False)
    if hang:
        monkeypatch.setenv(HANG_SECONDS, hang)
    assert heartbeat.collective_timeout().total_seconds() == seconds


def test_ranks_of_an_attempt_share_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert heartbeat.attempt() == str(os.getpid())
    for name, value in {"RANK": "3", "TORCHELASTIC_RUN_ID": "run", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert heartbeat.attempt() == "run-29500"


def test_a_process_that_is_gone_started_never() -> None:
    assert heartbeat.started(2**22 + 1) == ""
