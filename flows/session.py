"""The session of one flow run, opened by a flow and read by its tasks; and how a flow that a Prefect worker started
ends with it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from prefect.runtime import flow_run
from pydantic import WithJsonSchema

from conf.cluster import Cluster, load_cluster
from conf.process import die_with_parent
from tasks.gates import GateClosed
from tasks.launch.errors import JobFailed, Stopped
from tasks.launch.launchers import Launchers
from tasks.monitor import prefect_pages as seen
from tasks.monitor.board import Board
from tasks.session import Session, current
from tasks.store.store import Store, StoreError
from tasks.tracking.tracker import Tracker

WORKER = "IMBIK_WORKER"
"""Set by `imbik up` for its worker, and so for the flows that the worker starts: they end when it does, however it
ends."""
ORPHAN_SECONDS = 20.0
"""What a run that is ending has left once its worker is gone."""

Where = Annotated[
    str | Cluster,
    WithJsonSchema(
        {"type": "string", "description": "Cluster to run on: local, docker, slurm, kubernetes, or a YAML file there."}
    ),
]
"""A cluster's name or file, which a form can give, or the cluster itself."""


def resolve_cluster(cluster: Where) -> Cluster:
    """The cluster that is meant; RecipeError with one sentence where there is none."""
    return load_cluster(cluster) if isinstance(cluster, str) else cluster


def tags_of(cluster: Where) -> list[str]:
    """The tag by which Prefect's pages find runs of a cluster. One that is handed over whole has no name; whoever did
    so tags the run."""
    return [f"cluster:{Path(cluster).stem}"] if isinstance(cluster, str) else []


@contextlib.contextmanager
def open_session(name: str, root: Path, settings: dict[str, Any], cluster: Cluster) -> Iterator[Session]:
    """Everything the tasks of a run share, closed whatever happens: no process of the run outlives it. `settings` go to
    MLflow."""
    worker = _end_with_worker()
    store = Store(root)
    store.create()
    seen.in_one_sentence(JobFailed, StoreError, GateClosed, Stopped)
    launcher, failed = Launchers(cluster, store.root), True
    tracker = Tracker(
        store.root, name, settings, flow=flow_run.id, tags={"prefect": flow_run.id, "cluster": cluster.kind}
    )
    session = Session(name=name, store=store, launcher=launcher, board=board(), tracker=tracker, cluster=cluster)
    token = current.set(session)
    try:
        yield session
        failed = False
    finally:
        with _undisturbed(worker):
            current.reset(token)
            launcher.stop()
            if complaint := tracker.close(failed=failed):
                print(complaint)
            seen.link_mlflow(session)  # a run for which nothing was built may be over before MLflow knows it


def _end_with_worker() -> int:
    """A worker that is killed cannot end its flows any more, so the kernel does: as asked politely, with SIGTERM.
    Returns our parent."""
    if os.environ.get(WORKER):
        die_with_parent(signal.SIGTERM)
    return os.getppid()


@contextlib.contextmanager
def _undisturbed(worker: int) -> Iterator[None]:
    """The end of a run, which a second SIGTERM must not cut short: jobs would go on. The kernel sends one for each
    thread of a dying worker. Where the worker is gone its servers may be too, and Prefect would try to tell them for
    minutes."""
    if os.environ.get(WORKER):
        threading.Thread(target=_end_without, args=(worker,), name="worker", daemon=True).start()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_without(worker: int) -> None:
    while os.getppid() == worker:
        time.sleep(1.0)
    time.sleep(ORPHAN_SECONDS)
    os._exit(128 + signal.SIGTERM)


_board: Board | None = None


def board() -> Board:
    """The progress board of the flow this process runs; whoever shows it asks before the flow starts."""
    global _board
    _board = _board or Board()
    return _board
