"""What a tracker does while its server takes what it is sent: its own events first, then what earlier runs left."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.tracking import tracker as module
from tasks.tracking.spool import SentState, Spool
from tasks.tracking.tracker import Tracker, replay, sync

SERVER = "http://mlflow:5000"


class Sender:
    """In the place of what speaks to MLflow: takes an event of its spool at a time. `told`: the flow of each turn."""

    told: list[str]
    untils: list[float | None]

    def __init__(self, spool: Spool, client: Any, store: Path, until: float | None = None) -> None:
        self.spool, self.sent = spool, spool.sent()
        self.untils.append(until)

    def send(self) -> bool:
        self.told.append(self.spool.flow)
        if "refuses" in self.spool.flow:
            self.sent.refused = ["it"]
        if "fails" in self.spool.flow:
            raise ConnectionError("no route")
        for event, offset in self.spool.read(self.sent.offset, 1):
            self.sent.offset, self.sent.parent, self.sent.experiment = offset, "r1", "7"
            self.sent.ended = event["event"] == "end"
        self.sent.done = self.sent.ended
        self.spool.save(self.sent)
        return self.spool.unsent > 0


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(Sender, "told", [], raising=False)
    monkeypatch.setattr(Sender, "untils", [], raising=False)
    monkeypatch.setattr(module, "Sender", Sender)
    monkeypatch.setattr(module, "client_of", lambda store, uri: None)
    return Sender.told


def left(store: Path, flow: str, *events: str, uri: str | None = SERVER, **state: Any) -> Spool:
    """A spool that an earlier run left."""
    spool = Spool(store, flow)
    for event in events:
        spool.append(event)
    spool.save(SentState(uri=uri, **state))
    return spool


@pytest.fixture
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that a tracker waits before each turn; after the sixth its flow ends."""
    found = list[float]()

    class Event:
        def wait(self, seconds: float) -> bool:
            found.append(seconds)
            if len(found) == 7:
                Spool(tmp_path, "f").append("end")
            return len(found) > 6

        def set(self) -> None: ...

    monkeypatch.setattr(module, "threading", SimpleNamespace(Event=Event, Thread=Late))
    return found


class Late(threading.Thread):
    """A thread that begins when it is waited for, when all events are there."""

    def start(self) -> None: ...

    def join(self, timeout: float | None = None) -> None:
        super().start()
        super().join(timeout)


def test_a_flows_events_go_before_those_of_others(tmp_path: Path, waits: list[float], told: list[str]) -> None:
    """It does not wait while there are more, and ends with its end."""
    left(tmp_path, "other", "open", "end")
    left(tmp_path, "elsewhere", "open", uri="http://other")
    left(tmp_path, "done", "open", refused=["it"], done=True)
    tracker = Tracker(tmp_path, "mine", {}, uri=SERVER, flow="f")
    tracker.failed("prune", "it failed")
    assert tracker.close(failed=True) is None
    assert waits == [0.0, 0.0, 0.0] and told == ["f", "f", "f"], "its end was among them"
    assert tracker.ids() == {"flow": "f", "mlflow": "r1"}


def test_an_idle_tracker_helps(tmp_path: Path, waits: list[float], told: list[str]) -> None:
    """Others are sent a chunk at a time: those to this server that nobody holds and that were not refused."""
    left(tmp_path, "other", "open", "stage")
    left(tmp_path, "elsewhere", "open", uri="http://other")
    left(tmp_path, "done", "open", refused=["it"], done=True)
    with left(tmp_path, "held", "open").held():
        tracker = Tracker(tmp_path, "mine", {}, uri=SERVER, flow="f")
        tracker._thread.join()
    assert waits == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert told == ["f", "other", "f", "other", "other", "f", "f", "f", "f", "f"], "its end was missing: it was killed"
    assert Spool(tmp_path, "other").sent().done and Spool(tmp_path, "held").unsent


@pytest.mark.parametrize(
    ("events", "more", "turns"), [(("open", "end"), True, 1), (("end",), False, 1), (("open",), False, 2)]
)
def test_a_run_that_was_killed_gets_its_end(
    events: tuple[str, ...], more: bool, turns: int, tmp_path: Path, told: list[str]
) -> None:
    spool = left(tmp_path, "other", *events)
    os.utime(spool.path, (50.0, 50.0))
    assert replay(tmp_path, spool) is more
    assert told == ["other"] * turns and Sender.untils == [51.0], "metrics from after its end are not its own"
    assert Spool(tmp_path, "other").sent().ended is not more


def outcomes(found: Iterator[tuple[str, int, str | None]]) -> dict[str, tuple[bool, str | None]]:
    return {flow: (size > 0, why and why[:30]) for flow, size, why in found}


def test_sync_sends_all_that_is_left(tmp_path: Path, told: list[str]) -> None:
    left(tmp_path, "good", "open", "stage", "end")
    left(tmp_path, "refuses", "open", "end", refused=["that"])
    left(tmp_path, "fails", "open")
    spool = left(tmp_path, "waits", "open", "end")
    left(tmp_path, "waits", offset=spool.path.stat().st_size, ended=True)
    with left(tmp_path, "held", "open").held():
        assert outcomes(sync(tmp_path)) == {
            "good": (True, None),
            "refuses": (True, f"MLflow at {SERVER} refused it"[:30]),
            "fails": (True, "no route"),
        }
    assert [told.count(flow) for flow in ("good", "held")] == [3, 0]
