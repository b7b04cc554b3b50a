"""What a sender makes of a spool's events, with MLflow in memory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from conf.spec import Record
from tasks.tracking import sender as sender_module
from tasks.tracking.sender import Sender
from tasks.tracking.spool import SentState, Spool
from tests.fixtures.tracking import Client, lines

REFUSED, DOWN = MlflowException("too long", INVALID_PARAMETER_VALUE), MlflowException("down", TEMPORARILY_UNAVAILABLE)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the work folder of a running job."""
    (tmp_path / "work").mkdir()
    return tmp_path


def opened(store: Path, client: Client, until: float = math.inf) -> Sender:
    """A sender whose flow and stage have begun."""
    spool = Spool(store, "f")
    tags = {"commit": "c" * 6000, "empty": ""}
    spool.append("open", project="imbik", name="mine", host="h", tags=tags, recipe={"a": {"b": "x" * 600, "c": None}})
    spool.append("begin", label="small", stage="distill", key="k", work=str(store / "work"))
    made = Sender(spool, client, store, until)
    assert made.send()
    return made


def test_a_flow_and_its_stage_are_runs_one_in_the_other(store: Path) -> None:
    client = Client()
    opened(store, client)
    flow, stage = client.runs["r0"], client.runs["r1"]
    assert (flow.name, stage.name, flow.status, stage.status) == ("mine", "small", "RUNNING", "RUNNING")
    assert stage.tags["mlflow.parentRunId"] == "r0"
    assert (flow.tags["imbik.id"], stage.tags["imbik.id"]) == ("f/", "f/small")
    assert (flow.tags["imbik.kind"], stage.tags["imbik.kind"], stage.tags["imbik.stage"]) == (
        "flow",
        "stage",
        "distill",
    )
    assert flow.tags["imbik.commit"] == "c" * 5000 and "imbik.empty" not in flow.tags
    assert flow.params == {"a.b": "x" * 500}


def test_what_was_sent_is_not_sent_again(store: Path) -> None:
    client = Client()
    opened(store, client)
    again = Sender(Spool(store, "f"), client, store)
    assert not again.send() and len(client.runs) == 2
    again.spool.start_over()
    assert Sender(Spool(store, "f"), client, store).send() and len(client.runs) == 2, "found by its tag"


def test_each_step_of_a_metric_is_sent_once(store: Path) -> None:
    client, file = Client(), store / "work" / "metrics.jsonl"
    made = opened(store, client)
    lines(file, (0, 1.5, {"loss": 3.0}), (1, 2.0, {"loss": 2.0, "lr": 0.5}))
    made.send()
    lines(file, (1, 9.0, {"loss": 7.0}), (2, 9.0, {"loss": 1.0, "lr": math.inf}), (3, 9.0, {"lr": 0.25}))
    made.send()
    assert client.runs["r1"].metrics == [
        ("loss", 3.0, 1500, 0),
        ("loss", 2.0, 2000, 1),
        ("lr", 0.5, 2000, 1),
        ("loss", 1.0, 9000, 2),
        ("lr", 0.25, 9000, 3),
    ]


def test_lines_of_a_later_flow_are_left_to_it(store: Path) -> None:
    client = Client()
    made = opened(store, client, until=5.0)
    lines(store / "work" / "metrics.jsonl", (1, 5.0, {"a": 1.0}), (2, 5.001, {"a": 2.0}))
    made.send()
    assert [step for _, _, _, step in client.runs["r1"].metrics] == [1]


def test_metrics_that_were_not_taken_are_read_again(store: Path) -> None:
    client = Client()
    made = opened(store, client)
    lines(store / "work" / "metrics.jsonl", (1, 1.0, {"a": 1.0}))
    client.failing = DOWN
    with pytest.raises(MlflowException):
        made.send()
    client.failing = None
    Sender(Spool(store, "f"), client, store).send()
    assert [value for _, value, _, _ in client.runs["r1"].metrics] == [1.0]


@pytest.mark.parametrize(
    ("kind", "number", "sizes"),
    [("metrics", 1000, [1000]), ("metrics", 1001, [1000, 1]), ("tags", 100, [100]), ("params", 201, [100, 100, 1])],
)
def test_requests_hold_what_mlflow_takes(kind: str, number: int, sizes: list[int], store: Path) -> None:
    from mlflow.entities import Metric, Param, RunTag

    client = Client()
    made = opened(store, client)
    client.batches.clear()
    entry: Any = {"metrics": lambda name: Metric(name, 1.0, 0, 0), "params": lambda name: Param(name, "1")}.get(
        kind, lambda name: RunTag(name, "1")
    )
    made.log("r1", "small", **{kind: [entry(f"n{index}") for index in range(number)]})
    assert client.batches == [("r1", kind, size) for size in sizes]


def test_what_mlflow_refuses_is_named_and_the_rest_sent(store: Path) -> None:
    client = Client()
    made = opened(store, client)
    client.refused = {"a": REFUSED}
    lines(store / "work" / "metrics.jsonl", (1, 1.0, {"a": 1.0, "b": 2.0}))
    made.send()
    assert made.sent.refused == ["metrics a of small: too long"]
    assert client.runs["r1"].metrics == [("b", 2.0, 1000, 1)]


@pytest.mark.parametrize(("stopped", "status"), [(False, "FAILED"), (True, "KILLED")])
def test_a_failed_stage_has_its_sentence(stopped: bool, status: str, store: Path) -> None:
    client = Client()
    made = opened(store, client)
    lines(store / "work" / "metrics.jsonl", (1, 1.0, {"a": 1.0}))
    made.spool.append("fail", label="small", sentence="s" * 6000, stopped=stopped)
    made.send()
    run = client.runs["r1"]
    assert (run.status, run.tags["imbik.error"], len(run.metrics)) == (status, "s" * 5000, 1)
    assert made.sent.live == {}


def test_a_stage_that_failed_before_it_could_be_stopped_has_failed(store: Path) -> None:
    client = Client()
    made = opened(store, client)
    made.spool.append("fail", label="small", sentence="s")  # as releases before stops wrote it
    made.send()
    assert client.runs["r1"].status == "FAILED"


@pytest.mark.parametrize(("attempts", "told"), [(0, 1), (1, 1), (3, 3)])
def test_a_stage_has_its_seconds_and_attempts(attempts: int, told: int, store: Path) -> None:
    """At its end, in milliseconds, as the first step."""
    client = Client()
    made = opened(store, client)
    folder, empty = store / "artifacts" / "a", {"hashed": {}, "inputs": {}, "files": {}, "versions": {}}
    folder.mkdir(parents=True)
    record = Record(
        stage="distill", key="k", revision=1, config={}, seconds=7.5, created="2026-01-01T00:00:00", **empty
    )
    made_of = [{"reason": "done", "seconds": 1.0, "steps": 1}] * attempts
    (folder / "artifact.json").write_text(json.dumps(record.model_dump(mode="json") | {"attempts": made_of}))
    made.spool.append("stage", label="small", path=str(folder), cached=False)
    made.send()
    run = client.runs["r1"]
    (seconds, number) = sorted(run.metrics, reverse=True)
    assert (seconds[0], seconds[1], seconds[3]) == ("seconds", 7.5, 0)
    assert number == ("attempts", told, seconds[2], 0) and run.status == "FINISHED"
    assert seconds[2] == pytest.approx(run.end, abs=1)


def test_a_retry_is_told_on_the_flows_run(store: Path) -> None:
    client = Client()
    made = opened(store, client)
    made.spool.append("attempt", label="small", number=2, sentence="it was killed")
    made.send()
    assert client.runs["r0"].tags["imbik.attempt.small.2"] == "it was killed"


def test_the_end_ends_what_runs_and_deletes_twins(store: Path) -> None:
    client = Client()
    made = opened(store, client)
    client.create_run("e", "small", {"imbik.flow": "f"}, 0)  # of a request whose answer was lost
    client.create_run("e", "small", {"imbik.flow": "another"}, 0)
    made.spool.append("end", status="FINISHED")
    made.send()
    assert {name: run.status for name, run in client.runs.items()} == {"r0": "FINISHED", "r1": "KILLED", "r3": ""}
    assert made.sent.ended and not made.sent.done
    assert not made.send() and made.sent.done
    assert not made.spool.path.exists()


@pytest.mark.parametrize(("since", "done"), [(119.0, False), (121.0, True)])
def test_an_unanswered_request_is_waited_for(
    since: float, done: bool, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    made = opened(store, client)
    made.spool.append("end", status="FINISHED")
    made.send()
    made.sent.doubt = 1000.0
    client.create_run("e", "late", {"imbik.flow": "f"}, 0)
    monkeypatch.setattr(sender_module.time, "time", lambda: 1000.0 + since)
    made.send()
    assert made.sent.done == done
    assert ("r2" in client.runs) == (not done), "what came late is deleted at the end"


@pytest.mark.parametrize(("error", "doubt"), [(REFUSED, 0.0), (DOWN, 77.0)])
def test_only_an_unanswered_run_is_in_doubt(
    error: MlflowException, doubt: float, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    made = opened(store, client)
    client.failing = error
    monkeypatch.setattr(sender_module.time, "time", lambda: 77.0)
    with pytest.raises(MlflowException):
        made.run("other", "other", {}, 0)
    assert made.sent.doubt == doubt
    assert SentState(**vars(made.spool.sent())).doubt == 77.0, "saved before it is asked"
