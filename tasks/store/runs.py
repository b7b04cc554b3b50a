"""Finished runs of a store: their folders, reports, models and sealed scores."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from conf.patterns import RUN_NAME
from conf.report.report import VERSION, Report
from conf.report.row import Row
from tasks.store.moved import all_here
from tasks.store.store import RECORD, Artifact, Store, StoreError

REPORT = "report.json"
"""In a run's folder, written last: a run without it is not finished."""

PUBLISHED = "published"
"""Folder in a run's folder for students with their model cards."""


@dataclass(frozen=True, kw_only=True)
class FinishedModel:
    """A model of a finished run: the run's folder and report, and the model's row."""

    folder: Path
    report: Report
    row: Row

    @property
    def published(self) -> Path:
        """Its folder with the model card."""
        return self.folder / PUBLISHED / self.row.model


def finished(root: Path) -> list[str]:
    """Names of the finished runs of a store."""
    return sorted(path.parent.name for path in (root / "runs").glob(f"[!.]*/{REPORT}"))


def is_finished(root: Path, run: str) -> bool:
    """Whether the store has a finished run of this name."""
    return bool(run) and not run.startswith(".") and (root / "runs" / run / REPORT).is_file()


def folder_of(root: Path, run: str) -> Path:
    """The folder of a finished run; StoreError, naming the finished runs, where there is no such run."""
    if not is_finished(root, run):
        names = ", ".join(finished(root)) or "none"
        raise StoreError(f"there is no finished run {run} in {root}; finished runs: {names}")
    return root / "runs" / run


def read_report(folder: Path) -> Report:
    """The report of a finished run; StoreError where its file is damaged or of another version."""
    path = folder / REPORT
    remedy = f"run {folder.name} again: it reuses the store and rewrites the report"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged: it is not JSON ({error}); {remedy}") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        stated = "has no version" if version is None else f"has version {version}"
        raise StoreError(f"{path} {stated}, but this imbik reads version {VERSION}; {remedy}")
    try:
        return Report.model_validate(all_here(content, folder.absolute().parents[1]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path} is damaged at {where} ({first['msg']}); {remedy}") from error


def model_of(root: Path, target: str) -> FinishedModel:
    """The model that RUN/MODEL names; StoreError, naming the runs or models there are, where there is none."""
    run, _, model = target.partition("/")
    if not re.fullmatch(RUN_NAME, run) or "/" in model:
        names = ", ".join(finished(root)) or "none"
        raise StoreError(f"{target} is not RUN/MODEL; name a model of a finished run in {root}: {names}")
    folder = folder_of(root, run)
    report = read_report(folder)
    if model in report.stopped:
        raise StoreError(
            f"{target} was not built: gate {report.stopped[model]} stopped it; loosen the gate and run again"
        )
    rows = {row.model: row for row in report.rows}
    if model not in rows:
        raise StoreError(
            f"run {run} has no model {model or '(none named)'}; write RUN/MODEL with one of {', '.join(rows) or 'none'}"
        )
    return FinishedModel(folder=folder, report=report, row=rows[model])


def scores_of(store: Store, report: Report, row: Row) -> Path:
    """The sealed scores behind a row of a report; StoreError where they are no longer in the store."""
    model = Path(row.path).parent.name
    for entry in report.provenance:
        path = store.path("evaluate", entry.key)
        if entry.stage == "evaluate" and sealed(store, path.name).record.inputs["model"] == model:
            return path
    raise StoreError(f"run {report.name} has no scores of {row.model}; run its recipe again")


def sealed(store: Store, key: str) -> Artifact:
    """A sealed artifact by its key, of any stage; StoreError where it is no longer in the store."""
    stages = [path.parent.name for path in store.root.glob(f"[!.]*/{key}") if (path / RECORD).is_file()]
    artifact = store.find(stages[0], key) if stages else None
    if artifact is None:
        raise StoreError(f"{key} is no longer in the store {store.root}; run its recipe again")
    return artifact
