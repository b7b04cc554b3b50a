"""A tracker whose server fails, or whose disk is full: what is retried when, and what is told at the end."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.tracking import tracker as module
from tasks.tracking.spool import SentState, Spool
from tasks.tracking.tracker import Tracker, first_line, refusal

SERVER = "http://mlflow:5000"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The servers that were asked, none of which answers."""
    asked = list[str | None]()

    def client(store: Path, uri: str | None) -> None:
        asked.append(uri)
        raise ConnectionError("no  route\nto host")

    monkeypatch.setattr(module, "client_of", client)
    return asked


def events(store: Path, flow: str) -> list[dict[str, Any]]:
    return [event for event, _ in Spool(store, flow).read(0, 99)]


def test_what_is_queued_is_told_with_the_reason(tmp_path: Path, refused: list[str | None]) -> None:
    tracker = Tracker(tmp_path, "mine", {"project": "p"}, uri="http://me:secret@mlflow:5000", flow="f")
    told = tracker.close(failed=False)
    size = (tmp_path / "tracking" / "f.jsonl").stat().st_size
    assert told == (
        f"some metrics have not reached MLflow at {SERVER} yet (no route to host); {size:,} bytes are queued in"
        f" {tmp_path}/tracking; imbik sync or the next run sends what is queued"
    )
    assert set(refused) == {SERVER} and Spool(tmp_path, "f").sent().uri == SERVER
    opened, ended = events(tmp_path, "f")
    assert (opened["event"], opened["project"], ended["status"]) == ("open", "p", "FINISHED")


@pytest.mark.parametrize(
    ("failed", "stopped", "status"), [(True, False, "FAILED"), (True, True, "KILLED"), (False, True, "KILLED")]
)
def test_a_run_ends_as_it_ended(
    failed: bool, stopped: bool, status: str, tmp_path: Path, refused: list[str | None]
) -> None:
    Tracker(tmp_path, "mine", {}, uri=SERVER, flow="f").close(failed=failed, stopped=stopped)
    assert events(tmp_path, "f")[-1]["status"] == status
    assert events(tmp_path, "f")[0]["project"] == "imbik"


def test_a_job_failed_unless_its_run_was_stopped(tmp_path: Path, refused: list[str | None]) -> None:
    tracker = Tracker(tmp_path, "mine", {}, uri=SERVER, flow="f")
    tracker.failed("teacher", "it fell")
    tracker.failed("data", "it was ended", stopped=True)
    tracker.close(failed=True)
    told = [(event["label"], event["stopped"]) for event in events(tmp_path, "f") if event["event"] == "fail"]
    assert told == [("teacher", False), ("data", True)]


def test_lost_events_are_counted(tmp_path: Path, refused: list[str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Spool, event: str, **_: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Spool, "append", full)
    tracker = Tracker(tmp_path, "mine", {}, uri=SERVER, flow="f")
    tracker.failed("teacher", "it failed")
    assert "; 3 events are lost because the disk was full in" in (tracker.close(failed=True) or "")


def test_a_failing_server_is_asked_ever_less_often(
    tmp_path: Path, refused: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = list[float]()

    class Event:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return len(waits) == 9

        def set(self) -> None:
            """The ninth wait ends the thread."""

    monkeypatch.setattr(module, "threading", SimpleNamespace(Event=Event, Thread=threading.Thread))
    Tracker(tmp_path, "mine", {}, uri=SERVER, flow="f").close(failed=False)
    assert waits == [0, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(refused) == 8, "a server that failed lately is not asked at the end"


def test_stages_lie_in_their_trials_run(tmp_path: Path, refused: list[str | None]) -> None:
    tracker = Tracker(tmp_path, "mine", {}, uri=SERVER, flow="f")
    for _ in range(2):
        tracker.trial("t1", {"lr": 1.0})
    tracker.nest("distill-t1", "t1")
    tracker.begin("distill-t1", "distill", "1", tmp_path)
    tracker.begin("teacher", "teacher", "2", tmp_path)
    tracker.close(failed=False)
    found = events(tmp_path, "f")
    assert [event["event"] for event in found] == ["open", "trial", "begin", "begin", "end"]
    assert [event.get("within") for event in found[2:4]] == ["t1", None]


def test_a_flow_id_in_use_gets_a_number(tmp_path: Path, refused: list[str | None]) -> None:
    trackers = [Tracker(tmp_path, "mine", {}, uri=SERVER, flow="f") for _ in range(3)]
    assert [each.flow for each in trackers] == ["f", "f-1", "f-2"]
    for each in trackers:
        each.close(failed=False)


def test_only_a_run_on_a_server_has_a_link(tmp_path: Path, refused: list[str | None]) -> None:
    tracker = Tracker(tmp_path, "mine", {}, uri=f"{SERVER}/", flow="f")
    assert tracker.link() is None and tracker.ids() == {"flow": "f"}
    tracker.close(failed=False)
    tracker._parent, tracker._experiment = "r1", "7"
    assert tracker.link() == f"{SERVER}/#/experiments/7/runs/r1?workflowType=machine_learning"
    assert tracker.ids() == {"flow": "f", "mlflow": "r1"}
    tracker.uri = None
    assert tracker.link() is None, "the store's own database has no pages"


@pytest.mark.parametrize(("refusals", "more"), [(["a: bad"], ""), (["a: bad", "b", "c"], ", and 2 more")])
def test_refusals_are_counted(refusals: list[str], more: str, tmp_path: Path) -> None:
    text = refusal(SERVER, Spool(tmp_path, "f"), SentState(refused=refusals))
    assert text.startswith(f"MLflow at {SERVER} refused a: bad{more} (all in {tmp_path}/tracking/f.sent.json)")


def test_an_error_is_one_short_line() -> None:
    assert first_line(ValueError("a\n  b")) == "a b"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(ValueError("x" * 201)) == "x" * 200
