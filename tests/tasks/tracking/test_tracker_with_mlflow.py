"""What MLflow refuses or lost is told, kept and sent again, with MLflow itself and the store's own database."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.tracking import tracker as tracker_module
from tasks.tracking.servers import client_of
from tasks.tracking.tracker import Tracker, sync
from tests.fixtures.flow import wait_for
from tests.fixtures.web import serving

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose path needs quoting in URLs."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # as an empty line of an .env file sets it
    monkeypatch.setattr(tracker_module, "FINISH_SECONDS", 120.0)  # this machine may be busy
    folder = tmp_path / "ha#sh 50% o'clock"
    folder.mkdir()
    return folder


def job(store: Path, tracker: Tracker, steps: int = 3) -> None:
    """A stage that logs its loss and fails."""
    work = store / ".work" / "teacher-1"
    work.mkdir(parents=True, exist_ok=True)
    lines = [{"step": step, "time": time.time(), "values": {"val_loss": 1.0 / step}} for step in range(1, steps + 1)]
    (work / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tracker.begin("teacher", "teacher", "1", work)
    tracker.failed("teacher", "it failed")


def runs(store: Path, name: str) -> list[Any]:
    client = client_of(store, None)
    experiment = client.get_experiment_by_name("imbik")
    assert experiment is not None
    return [run for run in client.search_runs([experiment.experiment_id]) if run.info.run_name == name]


def closed(tracker: Tracker) -> str:
    return tracker.close(failed=False) or ""


def test_deleted_experiment_is_restored_and_told(store: Path) -> None:
    assert closed(Tracker(store, "first", {})) == ""
    client = client_of(store, None)
    client.delete_experiment(client.get_experiment_by_name("imbik").experiment_id)
    told = closed(Tracker(store, "second", {}))
    assert told == "the experiment imbik was deleted in MLflow; it was restored, with its earlier runs"
    assert len(runs(store, "first")) == len(runs(store, "second")) == 1


def test_one_bad_key_takes_no_other_along(store: Path) -> None:
    settings = {f"good{number}": number for number in range(150)} | {"bad?key": 1}
    told = closed(Tracker(store, "run", settings))
    assert "refused params bad?key of the run: " in told and "imbik sync sends it again" in told
    (run,) = runs(store, "run")
    assert set(run.data.params) == {f"good{number}" for number in range(150)}
    assert run.info.status == "FINISHED"


def test_what_was_refused_is_kept_and_sent_by_sync(store: Path) -> None:
    tracker = Tracker(store, "run", {"steps": 7})
    wait_for(lambda: tracker.ids().get("mlflow"), 60, "the run has not reached MLflow")
    client = client_of(store, None)
    client.delete_experiment(client.get_experiment_by_name("imbik").experiment_id)
    job(store, tracker)
    told = closed(tracker)
    assert f"MLflow at sqlite:///{store}/mlflow.db refused begin teacher: " in told
    events = store / "tracking" / f"{tracker.flow}.jsonl"
    assert f"to give it up, delete {events}" in told and events.is_file()
    assert [reason for _, _, reason in sync(store)] == [None]
    assert not events.exists()
    (run,), (stage,) = runs(store, "run"), runs(store, "teacher")
    assert run.data.params == {"steps": "7"}
    history = client.get_metric_history(stage.info.run_id, "val_loss")
    assert [metric.step for metric in history] == [1, 2, 3]


def test_sync_tells_what_is_refused_again(store: Path) -> None:
    tracker = Tracker(store, "run", {"bad?key": 1, "good": 2})
    told = closed(tracker)
    for _ in range(2):
        ((flow, _, reason),) = list(sync(store))
        assert flow == tracker.flow and reason is not None and reason in told
    assert len(runs(store, "run")) == 1, "sending again makes no second run"
    assert closed(Tracker(store, "next", {})) == "", "a later run does not try it again"
    (store / "tracking" / f"{tracker.flow}.jsonl").unlink()
    assert list(sync(store)) == []


def test_a_copied_store_never_writes_into_the_original(store: Path) -> None:
    closed(Tracker(store, "run", {}))
    (first,) = runs(store, "run")
    note = store / "note.txt"
    note.write_text("a picture")
    client_of(store, None).log_artifact(first.info.run_id, str(note))
    artifacts = store / "mlflow-artifacts"
    before = sorted(artifacts.rglob("*"))
    copy = store.parent / "copy"
    shutil.copytree(store, copy)
    (run,) = runs(copy, "run")
    assert run.info.artifact_uri == f"{(copy / 'mlflow-artifacts').as_uri()}/{run.info.run_id}/artifacts"
    closed(Tracker(copy, "second", {}))
    (second,) = runs(copy, "second")
    client_of(copy, None).log_artifact(second.info.run_id, str(note))
    assert sorted(artifacts.rglob("*")) == before, "MLflow keeps absolute places"
    assert len(list((copy / "mlflow-artifacts").rglob("note.txt"))) == 2
    assert not (store.parent / "ha").exists()


def test_expired_login_is_told_and_waited_for(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        codes.append(401)
        return 401, {"error_code": "UNAUTHENTICATED", "message": "the token has expired"}

    with serving(answer) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        tracker = Tracker(store, "run", {"steps": 7})
        wait_for(lambda: codes, 60, "MLflow was not asked")
        monkeypatch.setattr(tracker_module, "FINISH_SECONDS", 5.0)
        told = closed(tracker)
        assert f"some metrics have not reached MLflow at http://127.0.0.1:{port} yet" in told
        ((flow, size, reason),) = list(sync(store))
        assert flow == tracker.flow and size > 0 and reason is not None and "expired" in reason
    assert (store / "tracking" / f"{tracker.flow}.jsonl").is_file()


def test_run_deleted_midway_ends_and_is_made_anew_by_sync(store: Path) -> None:
    tracker = Tracker(store, "run", {"steps": 7})
    parent = wait_for(lambda: tracker.ids().get("mlflow"), 60, "the run has not reached MLflow")
    client_of(store, None).delete_run(parent)
    job(store, tracker)
    assert "refused" in closed(tracker)
    assert [reason for _, _, reason in sync(store)] == [None]
    (run,), (stage,) = runs(store, "run"), runs(store, "teacher")
    assert run.info.run_id != parent and stage.data.tags["mlflow.parentRunId"] == run.info.run_id


def test_trials_that_did_not_end_are_not_left_running(store: Path) -> None:
    tracker = Tracker(store, "study", {})
    tracker.trial("t1", {"distill.lr": 0.001, "students.depth.prune.drop_layers": [3, 4]})
    tracker.trial("t2", {"distill.lr": 0.002})
    tracker.trial("t3", {"distill.lr": 0.004})
    tracker.nest("teacher", "t3")
    job(store, tracker)
    tracker.trial_ended("t1", {"val_loss of depth (%)": 1.5}, None)
    tracker.trial_ended("t2", {}, "training diverged")
    assert closed(tracker) == ""
    (study,) = runs(store, "study")
    by_name = {name: runs(store, name)[0] for name in ("t1", "t2", "t3", "teacher")}
    assert {name: run.info.status for name, run in by_name.items()} == {
        "t1": "FINISHED",
        "t2": "FAILED",
        "t3": "KILLED",
        "teacher": "FAILED",
    }
    assert by_name["t1"].data.params == {"distill.lr": "0.001", "students.depth.prune.drop_layers": "[3, 4]"}
    assert by_name["t1"].data.metrics == {"val_loss of depth ---": 1.5}
    assert by_name["t2"].data.tags["imbik.error"] == "training diverged"
    above = {name: run.data.tags["mlflow.parentRunId"] for name, run in by_name.items()}
    assert above == dict.fromkeys(("t1", "t2", "t3"), study.info.run_id) | {"teacher": by_name["t3"].info.run_id}
