"""The deployment for real: PostgreSQL, a bucket, Prefect, MLflow and a worker from compose.yaml's own settings; a flow
triggered through the API, a job that prints its environment, a backup, lost databases, and everything there again."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.fixtures.flow import RECIPE
from tests.fixtures.stack import ROOT, Stack

pytestmark = pytest.mark.drill
pytest_plugins = ["tests.fixtures.stack"]
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
RUN_SECONDS = 420.0
FAULT = """
import os, pathlib, sys
if "--spec" in sys.orig_argv and not pathlib.Path(os.environ["FAULT"]).exists():
    pathlib.Path(os.environ["FAULT"]).touch()
    print("environment:", *os.environ.items(), sep="\\n", flush=True)
    os._exit(9)
"""


def recipe() -> dict[str, Any]:
    """One small student of the tests' recipe."""
    values: dict[str, Any] = yaml.safe_load(RECIPE.read_text())
    values["distill"] |= {"steps": 2, "validate_every": 2, "checkpoint_every": 2}
    values["students"] = {"depth": {"prune": {"drop_layers": [1], "parallel": {"threads": 1}}, "quantize": False}}
    values["evaluate"] |= {"mmlu": None}
    return values | {"quantize": []}


def triggered(stack: Stack, deployment: str) -> dict[str, Any]:
    """A run of the deployment, triggered through the API, at its end."""
    run = stack.prefect("POST", f"/deployments/{deployment}/create_flow_run", state={"type": "SCHEDULED"})
    deadline = time.monotonic() + RUN_SECONDS
    while (found := stack.prefect("GET", f"/flow_runs/{run['id']}"))["state_type"] not in FINAL:
        assert time.monotonic() < deadline, (
            f"still {found['state_name']}: {(stack.root / 'logs' / 'worker.log').read_text()[-2000:]}"
        )
        time.sleep(0.2)
    ended: dict[str, Any] = found
    return ended


@pytest.fixture(scope="module")
def ran(stack: Stack) -> Iterator[tuple[Stack, list[dict[str, Any]]]]:
    """Everything runs, and the deployment was triggered twice: the first run's job prints its environment and fails."""
    stack.start("prefect")
    stack.start("mlflow")
    (stack.root / "fault").mkdir()
    (stack.root / "fault" / "sitecustomize.py").write_text(FAULT)
    stack.wait("prefect", "/api/health")
    stack.prefect("POST", "/work_pools/", name="imbik", type="process")
    fault = {"PYTHONPATH": f"{stack.root / 'fault'}:{ROOT}", "FAULT": str(stack.root / "fault" / "done")}
    stack.start("worker", **fault)
    flow = stack.prefect("POST", "/flows/", name="compress")["id"]
    parameters = {"recipe": recipe(), "name": "team", "store": str(stack.store)}
    deployment = {"name": "team", "flow_id": flow, "entrypoint": "flows.compress.compress", "work_pool_name": "imbik"}
    made = stack.prefect(
        "POST", "/deployments/", **deployment, parameters=parameters, job_variables={"working_dir": str(ROOT)}
    )
    stack.wait("mlflow", "/health")
    yield stack, [triggered(stack, made["id"]), triggered(stack, made["id"])]


def runs_of(stack: Stack) -> dict[str, str]:
    """Status of every MLflow run by id."""
    found = stack.mlflow("POST", "/api/2.0/mlflow/runs/search", experiment_ids=["1"], max_results=100).json()["runs"]
    return {run["info"]["run_id"]: run["info"]["status"] for run in found}


def versions_of(stack: Stack) -> list[tuple[str, str, str]]:
    """Name, version and status of every model version in the registry."""
    found = stack.mlflow("GET", "/api/2.0/mlflow/model-versions/search").json().get("model_versions", [])
    return sorted((one["name"], one["version"], one["status"]) for one in found)


IN_BUCKET = "/api/2.0/mlflow-artifacts/artifacts/drill/report.json"
"""A file in the bucket as MLflow's clients, who have no key of the bucket, reach it. What a flow sends may come late on
a busy machine."""


def test_flow_triggered_by_api_finishes_and_publishes_results(
    ran: tuple[Stack, list[dict[str, Any]]],
) -> None:
    stack, (first, second) = ran
    assert first["state_type"] == "FAILED" and "exited with 9" in first["state"]["message"]
    assert second["state_type"] == "COMPLETED", second["state"]["message"]
    report = json.loads((stack.store / "runs" / "team" / "report.json").read_text())
    assert [row["model"] for row in report["rows"]] == ["teacher", "depth-pruned", "depth"]
    login = ("admin", stack.secrets["MLFLOW_AUTH_ADMIN_PASSWORD"])
    url = f"http://127.0.0.1:{stack.ports['mlflow']}{IN_BUCKET}"
    assert requests.put(url, json=report, timeout=30).status_code == 401
    assert requests.put(url, json=report, auth=login, timeout=30).ok
    assert stack.mlflow("GET", IN_BUCKET).json() == report
    assert len(runs_of(stack)) > 1, "the flow and its stages"
    assert set(runs_of(stack).values()) == {"FINISHED", "FAILED"}, "both flows are over"
    assert versions_of(stack) == [("team", "1", "READY")], "the winner is a version"


def test_strangers_are_turned_away(ran: tuple[Stack, list[dict[str, Any]]]) -> None:
    stack, _ = ran
    prefect, mlflow = (f"http://127.0.0.1:{stack.ports[name]}" for name in ("prefect", "mlflow"))
    asked = {"experiment_ids": ["1"]}
    assert requests.post(f"{prefect}/api/flow_runs/filter", json={}, timeout=10).status_code == 401
    assert (
        requests.post(f"{prefect}/api/flow_runs/filter", json={}, auth=("admin", "guess"), timeout=10).status_code
        == 401
    )
    assert requests.post(f"{mlflow}/api/2.0/mlflow/runs/search", json=asked, timeout=10).status_code == 401
    assert (
        requests.post(
            f"{mlflow}/api/2.0/mlflow/runs/search", json=asked, auth=("admin", "guess"), timeout=10
        ).status_code
        == 401
    )
    elsewhere = requests.get(f"{prefect}/api/health", headers={"Origin": "https://elsewhere.example"}, timeout=10)
    assert "access-control-allow-origin" not in elsewhere.headers, "a page of another site may not read it"
    rebound = requests.get(f"{mlflow}/", headers={"Host": "elsewhere.example"}, timeout=10)
    assert rebound.status_code == 403, "nor reach it under a name of its own"


def test_no_secret_is_in_any_byte_that_was_kept(ran: tuple[Stack, list[dict[str, Any]]]) -> None:
    stack, _ = ran
    kept = {
        str(path): path.read_bytes()
        for folder in ("store", "logs")
        for path in (stack.root / folder).rglob("*")
        if path.is_file()
    }
    for database in ("prefect", "mlflow", "mlflow_auth"):
        kept[database] = subprocess.run(
            ["pg_dump", database], env=stack.postgres(), check=True, capture_output=True
        ).stdout
    printed = [text for name, text in kept.items() if name.endswith("job.log") and b"environment:" in text]
    assert not printed or all(b"planted" not in text for text in printed)
    assert len(kept) > 30 and b"team" in kept["prefect"] and b"teacher" in kept["mlflow"]
    for variable, value in stack.secrets.items():
        for part in {value, value.partition(":")[2] or value}:
            found = [name for name, text in kept.items() if part.encode() in text]
            assert not found, f"{variable} is in {found}"


def test_lost_databases_come_back_from_the_backup(ran: tuple[Stack, list[dict[str, Any]]], tmp_path: Path) -> None:
    stack, triggered_runs = ran
    before, versions = runs_of(stack), versions_of(stack)
    done = stack.script("backup.sh", str(stack.root / "backups"), str(stack.store))
    assert done.returncode == 0, done.stderr
    backup = Path(done.stdout.strip())
    assert not [path for path in backup.iterdir() if path.stat().st_mode & 0o077], "others may not read it"
    stack.stop("worker", "prefect", "mlflow")
    for name in ("prefect", "mlflow", "mlflow_auth"):
        subprocess.run(["dropdb", name], env=stack.postgres(), check=True)
    shutil.rmtree(stack.store / "runs")
    damaged = tmp_path / "damaged"
    shutil.copytree(backup, damaged)
    (damaged / "mlflow.dump").write_bytes((damaged / "mlflow.dump").read_bytes()[:-1])
    refused = stack.script("restore.sh", str(damaged), str(stack.store))
    assert refused.returncode == 1 and "is damaged or not whole" in refused.stderr

    restored = stack.script("restore.sh", str(backup), str(stack.store))
    assert restored.returncode == 0, restored.stderr
    stack.start("prefect")
    stack.start("mlflow")
    stack.wait("prefect", "/api/health")
    stack.wait("mlflow", "/health")
    for run in triggered_runs:
        assert stack.prefect("GET", f"/flow_runs/{run['id']}")["state_type"] == run["state_type"]
    assert (runs_of(stack), versions_of(stack)) == (before, versions)
    assert stack.mlflow("GET", IN_BUCKET).json() == json.loads(
        (stack.store / "runs" / "team" / "report.json").read_text()
    )

    lost = min(stack.store.glob("distill/*"))
    shutil.move(lost, tmp_path / "lost")
    without = stack.script("restore.sh", str(backup), str(stack.store))
    assert (
        without.returncode == 3 and f"{lost.parent.name}/{lost.name}/artifact.json" in without.stderr + without.stdout
    )
