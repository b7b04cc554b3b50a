"""A store with its servers and worker, as `imbik up` runs them, and Prefect's API as its pages use it. Loopback, free ports."""

from __future__ import annotations

import contextlib
import http.server
import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from conf.load import load
from flows.server import free_port
from tasks.address import services
from tests.flow_fixtures import RECIPE, imbik, left_behind, start, wait_for

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
ONE_STUDENT = RECIPE.with_name("one-student.yaml")
LONG = ("teacher.steps=1500", "teacher.checkpoint_every=100", "quantize=[]", "distill=null")
"""Settings with which a run trains for long enough to be disturbed."""
ALIKE = ("parameters", "tags", "description", "entrypoint", "concurrency_options", "enforce_parameter_schema", "work_pool_name")
"""What two ways of making a deployment must agree on."""


@dataclass
class Site:
    """One `imbik up`; `posted` is what its automations sent to the receiver at `receiver`."""

    store: Path
    pages: str
    receiver: str
    posted: list[str] = field(default_factory=list)

    def api(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """One request to Prefect's API; the JSON it answers with."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.pages}/api/{path}",
            data=data,
            headers={"Content-Type": "application/json"},
            method=method or ("POST" if data else "GET"),
        )
        for patience in range(5, -1, -1):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    text = answer.read()
                break
            except urllib.error.HTTPError as error:
                if error.code != 503 or not patience:  # SQLite is busy: Prefect's own client asks again too
                    raise
                time.sleep(2)
        return json.loads(text) if text else None

    def deployment(self, name: str) -> str:
        """The id of a deployment, by flow/name."""
        found: str = self.api(f"deployments/name/{name}")["id"]
        return found

    def begin(self, name: str, /, **parameters: Any) -> str:
        """Start a run of a deployment as its form does; returns the run's id."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "enforce_parameter_schema": True}
        run: str = self.api(f"deployments/{self.deployment(name)}/create_flow_run", body)["id"]
        return run

    def refused(self, name: str, /, **parameters: Any) -> int:
        """The status with which the API refuses a run; 0 where it takes it."""
        try:
            self.begin(name, **parameters)
        except urllib.error.HTTPError as error:
            return error.code
        return 0

    def retry(self, run: str) -> None:
        """What the Retry button does."""
        self.api(f"flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True})

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """The runs of the deployments of a name."""
        found: list[dict[str, Any]] = self.api("flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}})
        return found

    def deployments(self) -> dict[str, dict[str, Any]]:
        """Every deployment by flow/name: what runs of it do, and its schedules."""
        flows = {flow["id"]: flow["name"] for flow in self.api("flows/filter", {})}
        return {
            f"{flows[one['flow_id']]}/{one['name']}": {key: one[key] for key in ALIKE}
            | {"schedules": [entry["schedule"] for entry in one["schedules"]]}
            for one in self.api("deployments/filter", {})
        }

    def state(self, run: str) -> dict[str, Any]:
        """A run's state: type, name, message."""
        found: dict[str, Any] = self.api(f"flow_runs/{run}")["state"]
        return found

    def ended(self, run: str) -> bool:
        """Whether a run has come to an end, whichever."""
        return self.state(run)["type"] in FINAL

    def end(self, run: str, seconds: float = 300) -> dict[str, Any]:
        """The state in which a run ends."""
        deadline = time.monotonic() + seconds
        while not self.ended(run):
            assert time.monotonic() < deadline, f"the run did not end: {self.state(run)}; {self.tasks(run)}; {self.log(run)[-5:]}"
            time.sleep(0.3)
        return self.state(run)

    def log(self, run: str) -> list[str]:
        """What a run and its tasks logged."""
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return [line["message"] for line in self.api("logs/filter", wanted)]

    def tasks(self, run: str) -> dict[str, str]:
        """The names of a run's task runs with the names of their states; of a run that was retried, the latest."""
        wanted = {"flow_runs": {"id": {"any_": [run]}}, "limit": 200, "sort": "EXPECTED_START_TIME_ASC"}
        found = self.api("task_runs/filter", wanted)
        return {one["name"]: one["state"]["name"] for one in found}

    def artifacts(self, run: str) -> list[dict[str, Any]]:
        """A run's artifacts."""
        found: list[dict[str, Any]] = self.api("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}, "limit": 200})
        return found

    def jobs(self, stage: str) -> list[int]:
        """Processes that write a log of a stage's job: its ranks, whoever started them."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if Path(f"/proc/{process.pid}/fd/1").readlink().match(f"{self.store}/.work/{stage}-*/job.log"):
                    found.append(process.pid)
        return found

    def working(self) -> list[str]:
        """Processes of flow runs and their jobs: everything of the store but the servers and the worker."""
        servers = ("uvicorn", "mlflow", "flows.cli", "worker start", "huey", "multiprocessing")
        return [line for line in left_behind(self.store) if not any(name in line for name in servers)]


class _Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        self.server.posted.append(json.loads(body)["text"])  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def serve(store: Path, ports: tuple[int, int], **options: Any) -> subprocess.Popen[str]:
    """`imbik up`, once it serves."""
    process = start("up", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1]), store=store, **options)
    wait_for(lambda: services(store) or process.poll() is not None, 240, "imbik up did not start")
    assert process.poll() is None, process.communicate()
    return process


def end(process: subprocess.Popen[str], how: signal.Signals, store: Path, seconds: float = 60) -> float:
    """Stop `imbik up` with a signal; the seconds until no process of the store was left."""
    begun = time.monotonic()
    process.send_signal(how)
    process.wait(seconds)
    while left := left_behind(store):
        assert time.monotonic() < begun + seconds, f"{how.name} left processes behind: {left}"
        time.sleep(0.2)
    return time.monotonic() - begun


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`imbik up` with a tiny recipe deployed and the shipped automations made; nothing of it is left afterwards."""
    store = tmp_path_factory.mktemp("site") / "store"
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    ports = free_port(), free_port()
    one_gpu = {"CUDA_VISIBLE_DEVICES": "0", "TMPDIR": str(store.parent)}  # its locks are no other test's
    process = serve(store, ports, more=one_gpu)
    made = Site(store=store, pages=f"http://127.0.0.1:{ports[0]}", receiver=f"http://127.0.0.1:{receiver.server_port}")
    receiver.posted = made.posted  # type: ignore[attr-defined]
    try:
        file = RECIPE.parents[2] / "deploy" / "automations.yaml"
        done = imbik("deploy", str(ONE_STUDENT), "--automations", str(file), "--notify", made.receiver, store=store)
        assert done.returncode == 0, done.stderr
        assert "compress/one-student" in done.stdout
        assert "automation imbik-failed" in done.stdout
        yield made
    finally:
        end(process, signal.SIGTERM, store)
        receiver.shutdown()


def recipe(*overrides: str) -> dict[str, Any]:
    """The recipe of one student as its form holds it."""
    return load(str(ONE_STUDENT), list(overrides)).model_dump(mode="json", exclude_unset=True)
