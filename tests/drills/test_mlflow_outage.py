"""An MLflow server that is away, slow or failing: no run waits for it, and when it is back it has exactly what it would
have had."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.tracking.spool import Spool, waiting
from tasks.tracking.tracker import Tracker, sync
from tests.fixtures.flow import RECIPE, imbik, left_behind, start, wait_for
from tests.fixtures.mlflow import Proxy, served

pytestmark = pytest.mark.drill
SMALL = ["students.width=null", "students.depth.quantize=false", "evaluate.new_tokens=0", "evaluate.sequences=4"]
Series = dict[str, dict[str, list[tuple[int, float, int]]]]


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Proxy]]:
    """A server behind a proxy that can misbehave."""
    with served(tmp_path_factory.mktemp("mlflow") / "server") as (uri, proxy):
        yield uri, proxy


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def told(uri: str, flow: str) -> Series:
    """Every series of a flow's stages as MLflow has it, by label and metric; one run for each label, or the test
    fails."""
    here = client(uri)
    (experiment,) = [each.experiment_id for each in here.search_experiments() if each.name == "imbik"]
    found: Series = {}
    for run in here.search_runs([experiment], f"tags.`imbik.flow` = '{flow}' and tags.`imbik.kind` = 'stage'"):
        label = run.info.run_name
        assert label not in found, f"{label} has two runs"
        names = [
            name
            for name in run.data.metrics
            if not name.startswith(("final_", "system/")) and name not in ("seconds", "attempts")
        ]
        found[label] = {
            name: sorted((m.step, m.value, m.timestamp) for m in here.get_metric_history(run.info.run_id, name))
            for name in names
        }
    return found


def sealed(store: Path, run: str) -> Series:
    """The same as the jobs themselves wrote it."""
    found: Series = {}
    for folder in (store / "runs" / run).iterdir():
        if folder.is_symlink() and (folder / "artifact.json").is_file():
            series = found.setdefault(folder.name, {})
            file = folder / "metrics.jsonl"
            for line in map(json.loads, file.read_text().splitlines() if file.is_file() else []):
                for name, value in line["values"].items():
                    if math.isfinite(value):
                        series.setdefault(name, []).append((line["step"], value, int(line["time"] * 1000)))
    return found


def test_a_run_through_an_outage_ends_as_an_undisturbed_one(
    mlflow: tuple[str, Proxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, proxy = mlflow
    store = tmp_path / "store"
    proxy.turn("dead")
    process = start("run", str(RECIPE), *SMALL, "--name", "through", store=store, more={"MLFLOW_TRACKING_URI": uri})
    while process.poll() is None and not list(store.glob("teacher/*")):
        time.sleep(0.05)
    proxy.turn("slow")
    while process.poll() is None and not list(store.glob("prune/*")):
        time.sleep(0.05)
    proxy.turn("error")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"some metrics have not reached MLflow at {uri}" in out
    assert left_behind(store) == []
    (spool,) = waiting(store)
    asked = imbik("sync", store=store)
    assert asked.returncode == 1 and f"{spool.flow}: {spool.unsent:,} bytes not sent" in asked.stdout, asked.stdout
    assert "imbik: MLflow did not accept everything; check the server, then run imbik sync again" in asked.stderr
    proxy.turn("lost")  # carried out, yet answered with 500: what is sent again must not double
    tries = 0
    while any(reason for _, _, reason in sync(store)):
        tries += 1
        assert tries < 100
    assert tries > 1, "answers were lost"
    proxy.turn("ok")
    wait_for(lambda: not proxy.late, proxy.seconds + 5, "requests are held back for good")
    with monkeypatch.context() as patched:
        patched.setattr(
            "tasks.tracking.sender.LATE_SECONDS", 0.0
        )  # what was asked for without an answer is here by now, maybe twice
        assert not list(sync(store))
    assert not waiting(store)
    assert told(uri, spool.flow) == sealed(store, "through")
    again = imbik(
        "run", str(RECIPE), *SMALL, "--name", "calm", store=store, more={"MLFLOW_TRACKING_URI": uri}, alone=True
    )
    assert again.returncode == 0 and "some metrics have not reached" not in again.stdout, again.stderr
    calm = json.loads((store / "runs" / "calm" / "tracking.json").read_text())["flow"]
    assert told(uri, calm) == told(uri, spool.flow)
    here = client(uri)
    parents = {flow: here.get_run(Spool(store, flow).sent().parent) for flow in (spool.flow, calm)}
    assert {parent.info.status for parent in parents.values()} == {"FINISHED"}
    names = [set(parent.data.metrics) | set(parent.data.params) for parent in parents.values()]
    assert names[0] == names[1]
    assert [entry.path for entry in here.list_artifacts(parents[calm].info.run_id)] == [
        entry.path for entry in here.list_artifacts(parents[spool.flow].info.run_id)
    ]
    asked = imbik("sync", store=store)
    assert (asked.returncode, asked.stdout.strip()) == (0, "MLflow is up to date")
    readmes_recipes_find(here, store, calm)


SMALL_STUDENTS = "tags.`imbik.role` = 'student' and metrics.final_bytes < 3000000000"
BEST = ["metrics.final_test_loss ASC"]


def readmes_recipes_find(here: Any, store: Path, flow: str) -> None:
    """The searches that tasks/README.md gives, as they stand there, among all runs of the server."""
    readme = (RECIPE.parents[2] / "tasks" / "README.md").read_text()
    (experiment,) = [each.experiment_id for each in here.search_experiments() if each.name == "imbik"]
    rows = {row["model"]: row for row in json.loads((store / "runs" / "calm" / "report.json").read_text())["rows"]}
    assert SMALL_STUDENTS in readme and BEST[0] in readme
    found = here.search_runs([experiment], SMALL_STUDENTS, order_by=BEST)
    ours = [run for run in found if run.data.tags["imbik.flow"] == flow]
    assert [run.data.tags["imbik.model"] for run in ours] == ["depth"]
    assert ours[0].data.metrics["final_test_loss"] == rows["depth"]["val_loss"]
    assert ours[0].data.metrics["final_bytes"] == rows["depth"]["bytes"] < 3_000_000_000
    assert not here.search_runs([experiment], SMALL_STUDENTS.replace("3000000000", str(rows["depth"]["bytes"])))
    slowest = here.search_runs(
        [experiment], "tags.`imbik.kind` = 'stage' and metrics.seconds > 0", order_by=["metrics.seconds DESC"]
    )
    times = [run.data.metrics["seconds"] for run in slowest]
    assert len(times) > 4 and times == sorted(times, reverse=True)
    (winner,) = here.search_model_versions("name = 'calm'")
    assert (winner.tags["imbik.model"], list(here.get_registered_model("calm").aliases)) == ("depth", ["candidate"])
    assert winner.tags["imbik.recipe.teacher"] and "# calm-depth" in winner.description


def told_events(tracker: Tracker, count: int) -> float:
    """Seconds that a flow's own thread spends on telling `count` events; a job's metrics cost it nothing."""
    begun = time.thread_time()  # the machine's other work is not the tracker's
    for number in range(count):
        tracker.attempt("teacher", number, "its node was lost; again")
    return time.thread_time() - begun


def test_no_server_makes_a_flow_wait(mlflow: tuple[str, Proxy], tmp_path: Path) -> None:
    """Neither its start nor an event waits, nor its end for long."""
    uri, proxy = mlflow
    costs, ends = {}, {}
    for mode in ("dead", "slow", "error", "ok"):
        proxy.turn(mode)
        (tmp_path / mode).mkdir()
        begun = time.perf_counter()
        tracker = Tracker(tmp_path / mode, mode, {"project": "speed"}, uri=uri)
        assert time.perf_counter() - begun < 0.5
        tracker.begin("teacher", "teacher", "key", tmp_path)
        costs[mode] = told_events(tracker, 300) / 300
        begun = time.perf_counter()
        complaint = tracker.close(failed=False)
        ends[mode] = time.perf_counter() - begun
        assert complaint or mode == "ok"
    print({mode: f"{cost * 1e6:.0f} us an event, {ends[mode]:.1f} s to end" for mode, cost in costs.items()})
    assert max(ends.values()) < 25, ends
    assert max(costs.values()) < 1e-4, costs


def test_what_a_killed_flow_left_is_sent_by_the_next_run(mlflow: tuple[str, Proxy], tmp_path: Path) -> None:
    uri, proxy = mlflow
    proxy.turn("ok")
    spool = Spool(tmp_path, "killed")
    sent = spool.sent()
    sent.uri = uri
    spool.save(sent)
    spool.append("open", name="gone", project="killed", recipe={"seed": 1}, host="here", tags={})
    spool.append("begin", label="teacher", stage="teacher", key="k", work=str(tmp_path))
    lines = [{"step": 1, "time": 5.0, "values": {"train_loss": 2.0}}]
    lines += [{"step": 2, "time": time.time() + 60, "values": {"train_loss": 1.0}}]  # of the flow that went on
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "ti')
    with spool.path.open("a") as stream:
        stream.write('{"event": "attempt", "label": "teach')  # torn when it was killed
    tracker = Tracker(tmp_path, "next", {"project": "killed"}, uri=uri)
    deadline = time.monotonic() + 30
    while waiting(tmp_path)[0].flow == "killed" and len(waiting(tmp_path)) > 1:
        assert time.monotonic() < deadline, "it was not sent"
        time.sleep(0.1)
    assert tracker.close(failed=False) is None
    here = client(uri)
    killed = Spool(tmp_path, "killed").sent()
    assert here.get_run(killed.parent).info.status == "KILLED"
    stage = here.get_run(killed.runs["teacher"])
    assert stage.info.status == "KILLED"
    assert [(m.step, m.value) for m in here.get_metric_history(stage.info.run_id, "train_loss")] == [(1, 2.0)]
