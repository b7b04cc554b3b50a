"""The session of one flow run, and shutdown of flows together with the worker that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Annotated, Any

from prefect.runtime import flow_run
from pydantic import WithJsonSchema

from conf.cluster import Cluster, load_cluster
from conf.environment import settle
from conf.process import die_with_parent
from tasks.gates import GateClosed
from tasks.launch.errors import JobFailed, Stopped, interrupted
from tasks.launch.launchers import Launchers
from tasks.monitor import prefect_pages
from tasks.monitor.board import Board
from tasks.session import Session, current
from tasks.store import use
from tasks.store.store import Store, StoreError
from tasks.tracking.tracker import Tracker

WORKER = "IMBIK_WORKER"
"""Set by `imbik up` for its worker and inherited by the worker's flows, which end with it however it ends."""
ORPHAN_SECONDS = 20.0
"""Time that an ending run has after its worker is gone."""

Where = Annotated[
    str | Cluster,
    WithJsonSchema(
        {
            "type": "string",
            "description": "Cluster to run on: local, docker, slurm, kubernetes, or a YAML file on the worker.",
        }
    ),
]
"""Name or file of a cluster, as in a form, or the cluster itself."""


def resolve_cluster(cluster: Where) -> Cluster:
    """Load the cluster by name or file. Raises RecipeError."""
    return load_cluster(cluster) if isinstance(cluster, str) else cluster


def tags_of(cluster: Where) -> list[str]:
    """Prefect tags of runs on a cluster. A Cluster object has no name; its caller tags the run."""
    return [f"cluster:{Path(cluster).stem}"] if isinstance(cluster, str) else []


@contextlib.contextmanager
def open_session(name: str, root: Path, settings: dict[str, Any], cluster: Cluster) -> Iterator[Session]:
    """Open what the tasks of a run share, and close it in any case: no process of the run outlives it. `settings` are
    logged to MLflow."""
    settle()
    worker = _end_with_worker()
    store = Store(root)
    store.create()
    with use.running(store.root, name):
        yield from _opened(name, store, settings, cluster, worker)


def _opened(
    name: str, store: Store, settings: dict[str, Any], cluster: Cluster, worker: int
) -> Generator[Session, None, None]:
    prefect_pages.in_one_sentence(JobFailed, StoreError, GateClosed, Stopped)
    launcher, failed, stopped = Launchers(cluster, store.root), True, False
    tracker = Tracker(
        store.root, name, settings, flow=flow_run.id, tags={"prefect": flow_run.id, "cluster": cluster.kind}
    )
    session = Session(name=name, store=store, launcher=launcher, board=board(), tracker=tracker, cluster=cluster)
    token = current.set(session)
    try:
        yield session
        failed = False
    except BaseException as error:
        stopped = interrupted(error)
        raise
    finally:
        with _undisturbed(worker):
            current.reset(token)
            launcher.stop()
            if unsent := tracker.close(failed=failed, stopped=stopped):
                print(unsent)
            prefect_pages.link_mlflow(session)  # a fully cached run may end before MLflow has it


def _end_with_worker() -> int:
    """Have the kernel send SIGTERM when the worker dies, because a killed worker cannot end its flows. Returns the
    parent's pid."""
    if os.environ.get(WORKER):
        die_with_parent(signal.SIGTERM)
    return os.getppid()


@contextlib.contextmanager
def _undisturbed(worker: int) -> Iterator[None]:
    """Shield the end of a run from further SIGTERMs, which would leave jobs running: the kernel sends one for each
    thread of a dying worker. If the worker is gone, exit after ORPHAN_SECONDS, because Prefect would retry its servers
    for minutes."""
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
    """Progress board of this process's flow; a view requests it before the flow starts."""
    global _board
    _board = _board or Board()
    return _board
