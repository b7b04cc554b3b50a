"""Where servers are reached: those that `imbik up` runs for a store; MLflow's, its address without the login in it, or
the store's own database, and a client for either."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from conf.files import write_whole
from tasks.store import databases

if TYPE_CHECKING:
    from mlflow import MlflowClient

SERVICES, UP = "services.json", "up.lock"
"""Under the store: the addresses of the servers that `imbik up` started, and the lock that it holds while it runs."""


def services(store: Path) -> dict[str, str]:
    """Addresses of the servers that `imbik up` runs for this store, on this machine; empty while it does not run."""
    with contextlib.suppress(OSError, ValueError), (store / UP).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            known: dict[str, str] = json.loads((store / SERVICES).read_text())
            if known.pop("machine", "") == os.uname().nodename:  # a store on a shared disk may be served on another
                return known
    return {}


@contextlib.contextmanager
def single_instance(store: Path) -> Iterator[None]:
    """Be the one `imbik up` of the store, for two would share its databases: ValueError where one runs. The kernel
    takes the lock back however it ends."""
    with (store / UP).open("a") as lock:
        for patience in (1, 1, 1, 0):  # a run that only looks whether one runs holds it for a moment
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not patience:
                    raise ValueError(
                        f"imbik up already runs for the store {store}; use it, stop it, or name another store with"
                        " --store"
                    ) from None
                time.sleep(0.1)
        (store / SERVICES).unlink(missing_ok=True)  # of one that was killed
        yield


@contextlib.contextmanager
def publish_addresses(store: Path, **addresses: str) -> Iterator[None]:
    """Tell runs of the store where its servers are, while all serve."""
    file = store / SERVICES
    write_whole(file, json.dumps(addresses | {"machine": os.uname().nodename}))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def client_of(store: Path, uri: str | None) -> MlflowClient:
    """MLflow's client for an address, or for the store's own database: through the server of `imbik up` where that
    runs."""
    # Without these MLflow tries a dead server for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    import logging

    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    if uri is None:
        databases.ready(store / "mlflow.db", "mlflow")
    named = os.environ.get("MLFLOW_TRACKING_URI")
    address = named if named and bare(named) == uri else uri  # a password in it is in the environment only
    client = MlflowClient(tracking_uri=address or own_uri(store))
    if uri is None:
        with (store / "mlflow.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once would both make the first experiment
            client.search_experiments(max_results=1)
    return client


def bare(uri: str | None) -> str | None:
    """An address without the user and password in it, as it may be written down."""
    if uri is None or "@" not in uri:
        return uri
    parts = urllib.parse.urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def own_uri(store: Path) -> str:
    """Where the store's own database is reached: the server of `imbik up`, else the file itself."""
    return services(store).get("mlflow") or f"sqlite:///{store}/mlflow.db"
