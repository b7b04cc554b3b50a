"""Resolves the model that a user names: RUN/MODEL of a store, a model directory, or NAME@ALIAS of the registry."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.store.runs import PUBLISHED as FOLDER
from tasks.tracking import registry
from tasks.tracking.servers import bare, client_of
from tasks.tracking.spool import Spool


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A model of a finished run: the run's folder and report, and the model's row."""

    folder: Path
    report: dict[str, Any]
    row: dict[str, Any]

    @property
    def published(self) -> Path:
        """Its folder with the model card."""
        return self.folder / FOLDER / str(self.row["model"])


def chosen(store: Path, target: str) -> Chosen:
    """Find RUN/MODEL. Raises ValueError with the available runs or models."""
    run, _, model = target.partition("/")
    report = _report(store, run)
    rows = {row["model"]: row for row in report["rows"]}
    if model in report.get("stopped", {}):
        raise ValueError(
            f"{target} does not exist because the gate {report['stopped'][model]} stopped it; relax the gate and run"
            " again"
        )
    if model not in rows:
        raise ValueError(
            f"run {run} has no model {model or '(none given)'}; use RUN/MODEL with one of {', '.join(rows)}"
        )
    return Chosen(folder=store / "runs" / run, report=report, row=rows[model])


def _report(store: Path, run: str) -> dict[str, Any]:
    path = store / "runs" / run / "report.json"
    if not run or not path.is_file():
        finished = sorted(path.parent.name for path in (store / "runs").glob("*/report.json"))
        raise ValueError(f"there is no finished run {run} in {store}; finished runs: {', '.join(finished) or 'none'}")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def directory(store: Path, target: str) -> tuple[Path, str]:
    """The model directory of `target`, and a short name for it."""
    path = Path(target).expanduser()
    if path.is_dir() and (path / "config.json").is_file():
        return path.absolute(), path.resolve().name if path.name != "model" else path.resolve().parent.parent.name
    if path.is_dir() and (path / "model" / "config.json").is_file():
        return (path / "model").absolute(), path.name
    if "@" in target:
        name, _, alias = target.partition("@")
        return registry.place_of(client_of(store, bare(os.environ.get("MLFLOW_TRACKING_URI"))), name, alias), name
    found = chosen(store, target)
    return Path(found.row["path"]), f"{found.report['name']}-{found.row['model']}"


def promote(store: Path, target: str, *, force: bool) -> str:
    """Make RUN/MODEL the champion; returns a message."""
    from mlflow.exceptions import MlflowException

    found = chosen(store, target)
    if not found.row["student"]:
        raise ValueError(f"{target} is the teacher; promote one of its students")
    tracking_file = found.folder / "tracking.json"
    if not tracking_file.is_file():
        raise ValueError(f"run {found.report['name']} was never logged to MLflow; run it again, which rebuilds nothing")
    tracking = json.loads(tracking_file.read_text())
    parent = Spool(store, tracking["flow"]).sent().parent
    if not parent:
        raise ValueError(f"run {found.report['name']} has not reached MLflow yet; start the server, then imbik sync")
    try:
        return registry.promote(
            client_of(store, tracking["uri"]), parent, found.folder, found.report, found.row["model"], force=force
        )
    except MlflowException as error:
        raise ValueError(
            f"MLflow rejected the promotion ({' '.join(str(error).split())[:160]}); check the server, then try again"
        ) from error
