"""Resolves the model that a user names: RUN/MODEL of a store, a model directory, or NAME@ALIAS of the registry."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tasks.store.runs import is_finished, model_of
from tasks.tracking import registry
from tasks.tracking.servers import bare, client_of
from tasks.tracking.spool import Spool


def directory(store: Path, target: str) -> tuple[Path, str]:
    """The model directory of `target`, and a short name for it."""
    path = Path(target).expanduser()
    if path.is_dir() and (path / "config.json").is_file():
        return path.absolute(), path.resolve().name if path.name != "model" else path.resolve().parent.parent.name
    if path.is_dir() and (path / "model" / "config.json").is_file():
        return (path / "model").absolute(), path.name
    run, _, model_name = target.partition("/")
    if not is_finished(store, run):  # a run may have the name of a folder here
        if path.exists():
            kind = "folder without config.json" if path.is_dir() else "file"
            raise ValueError(f"{target} is a {kind}; name a Hugging Face model's folder, or RUN/MODEL")
        if path.is_absolute() or target.startswith((".", "~")) or "/" in model_name:
            raise ValueError(f"{target} does not exist; name a Hugging Face model's folder, or RUN/MODEL")
    if "@" in target:
        name, _, alias = target.partition("@")
        client = client_of(store, bare(os.environ.get("MLFLOW_TRACKING_URI") or None))
        return registry.place_of(client, store, name, alias), name
    model = model_of(store, target)
    return Path(model.row.path), f"{model.report.name}-{model.row.model}"


def promote(store: Path, target: str, *, force: bool) -> str:
    """Make RUN/MODEL the champion; returns a message."""
    from mlflow.exceptions import MlflowException

    model = model_of(store, target)
    if not model.row.student:
        raise ValueError(f"{target} is the teacher; promote one of its students")
    tracking_file = model.folder / "tracking.json"
    if not tracking_file.is_file():
        raise ValueError(f"run {model.report.name} was never logged to MLflow; run it again, which rebuilds nothing")
    tracking = json.loads(tracking_file.read_text())
    parent = Spool(store, tracking["flow"]).sent().parent
    if not parent:
        raise ValueError(f"run {model.report.name} has not reached MLflow yet; start the server, then imbik sync")
    try:
        return registry.promote(
            client_of(store, tracking["uri"]), parent, model.folder, model.report, model.row.model, force=force
        )
    except MlflowException as error:
        raise ValueError(
            f"MLflow rejected the promotion ({' '.join(str(error).split())[:160]}); check the server, then try again"
        ) from error
