"""Where MLflow is reached: a server's address without the login in it, or the store's own database, and a client for either."""

from __future__ import annotations

import fcntl
import json
import os
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient


def client_of(store: Path, uri: str | None) -> MlflowClient:
    """MLflow's client for an address, or for the store's own database: through the server of `imbik up` where that runs."""
    # Without these MLflow tries a dead server for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    import logging

    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    named = os.environ.get("MLFLOW_TRACKING_URI")
    address = named if named and bare(named) == uri else uri  # a password in it is in the environment only
    client = MlflowClient(tracking_uri=address or own_uri(store))
    if uri is None:
        with (store / "mlflow.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once would both make the database
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
    try:
        known = json.loads((store / "services.json").read_text())
        os.kill(int(known["pid"]), 0)
        return str(known["mlflow"])
    except (OSError, ValueError, KeyError):
        return f"sqlite:///{store}/mlflow.db"
