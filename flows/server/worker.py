"""The worker that `imbik up` runs: it takes runs from the pool and starts each as a process of this machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

from flows.server.deployments import POOL
from flows.server.processes import process
from flows.session import WORKER

HEARTBEAT_SECONDS = 30
"""Prefect's least; deploy/automations.yaml ends a run that missed three."""


@contextlib.contextmanager
def worker(store: Path, prefect: str, mlflow: str) -> Iterator[Popen[bytes]]:
    """Prefect's process worker for the default pool. How many runs it has at once is the pool's limit: a worker with a
    limit of its own ends when a run is retried before its last process has gone
    (https://github.com/PrefectHQ/prefect/issues/16806)."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    command += ["--name", f"imbik-{os.uname().nodename}", "--install-policy", "never"]
    environment = {
        "PREFECT_API_URL": prefect,
        "MLFLOW_TRACKING_URI": mlflow,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        WORKER: "1",
    }
    with process(command, environment, store / "prefect" / "worker.log") as running:
        yield running
