"""The worker of `imbik up`: starts runs of the pool as processes on this machine."""

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
"""Prefect's minimum; deploy/automations.yaml fails a run that missed three heartbeats."""


@contextlib.contextmanager
def worker(store: Path, prefect: str, mlflow: str) -> Iterator[Popen[bytes]]:
    """Prefect's process worker for the default pool. The pool limits concurrent runs: a worker with its own limit exits
    when a run is retried before its last process has ended (https://github.com/PrefectHQ/prefect/issues/16806)."""
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
