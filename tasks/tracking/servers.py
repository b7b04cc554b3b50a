"""URLs of the servers of `imbik up` for a store, and MLflow's client for a server or the store's own database."""

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
from tasks.store.locks import held, opened

if TYPE_CHECKING:
    from mlflow import MlflowClient

SERVICES, UP = "services.json", "up.lock"
"""Files in the store: URLs of the servers of `imbik up`, and the lock that it holds while it runs."""


def services(store: Path) -> dict[str, str]:
    """URLs of the servers that `imbik up` runs for this store on this machine; empty if it does not run."""
    with contextlib.suppress(OSError, ValueError), (store / UP).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            addresses: dict[str, str] = json.loads((store / SERVICES).read_text(encoding="utf-8"))
            if addresses.pop("machine", "") == os.uname().nodename:  # a shared store may be served by another machine
                return addresses
    return {}


@contextlib.contextmanager
def single_instance(store: Path) -> Iterator[None]:
    """Hold the store's lock for `imbik up`, because two would share its databases. Raises ValueError if one runs. The
    kernel releases the lock."""
    with opened(store / UP) as lock:
        for patience in (1, 1, 1, 0):  # a run that checks for servers holds the lock briefly
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not patience:
                    raise ValueError(
                        f"imbik up already runs for the store {store}; use it, stop it, or choose another --store"
                    ) from None
                time.sleep(0.1)
        (store / SERVICES).unlink(missing_ok=True)  # left by a killed process
        yield


@contextlib.contextmanager
def publish_addresses(store: Path, **addresses: str) -> Iterator[None]:
    """Publish the servers' URLs to runs of the store until the block ends."""
    file = store / SERVICES
    write_whole(file, json.dumps(addresses | {"machine": os.uname().nodename}))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def client_of(store: Path, uri: str | None) -> MlflowClient:
    """MLflow's client for a URL, or for the store's own database (through the server of `imbik up` if it runs)."""
    # Without these MLflow retries an unreachable server for minutes.
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
        databases.settle_here(store / "mlflow.db")
    named = os.environ.get("MLFLOW_TRACKING_URI")
    address = named if named and bare(named) == uri else uri  # a password in the URL stays in the environment
    client = MlflowClient(tracking_uri=address or own_uri(store))
    if uri is None:
        with held(store / "mlflow.lock"):  # concurrent runs would both create the first experiment
            client.search_experiments(max_results=1)
    return client


def artifacts_uri(store: Path) -> str:
    """Location of MLflow's artifacts in the store, as the store's own database names it."""
    return (store / databases.ARTIFACTS).as_uri()


def bare(uri: str | None) -> str | None:
    """A URL without user and password, safe to store."""
    if uri is None or "@" not in uri:
        return uri
    parts = urllib.parse.urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def own_uri(store: Path) -> str:
    """URL of the store's own database: the server of `imbik up`, else the file."""
    return services(store).get("mlflow") or f"sqlite:///{store}/mlflow.db"
