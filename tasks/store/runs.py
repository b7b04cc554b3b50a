"""Finished runs of a store: their reports, models and sealed scores."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from conf.report.report import VERSION, Report
from conf.report.row import Row
from tasks.store.store import RECORD, Artifact, Store, StoreError

REPORT = "report.json"
"""In a run's folder, written last: a run without it is not finished."""

PUBLISHED = "published"
"""In a run's folder: its students beside their cards."""


def finished(root: Path) -> list[str]:
    """Names of the finished runs of a store."""
    return sorted(path.parent.name for path in (root / "runs").glob(f"[!.]*/{REPORT}"))


def folder_of(root: Path, run: str) -> Path:
    """The folder of a finished run. StoreError names the finished runs where there is none of this name."""
    folder = root / "runs" / run
    if not run or not (folder / REPORT).is_file():
        names = ", ".join(finished(root)) or "none"
        raise StoreError(f"there is no finished run {run} in {root}; finished runs: {names}")
    return folder


def read_report(folder: Path) -> Report:
    """The report of a finished run. StoreError where its file is of another version or damaged."""
    path = folder / REPORT
    remedy = f"run {folder.name} again, which builds nothing that is in the store and writes the report anew"
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise StoreError(f"{path} is damaged, it is no JSON ({error}); {remedy}") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        stated = "no version" if version is None else f"version {version}"
        raise StoreError(f"{path} has {stated}, but this imbik reads reports of version {VERSION}; {remedy}")
    try:
        return Report.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path} is damaged ({where}: {first['msg']}); {remedy}") from error


def scores_of(store: Store, report: Report, row: Row) -> Path:
    """The sealed scores behind a row of a report."""
    model = Path(row.path).parent.name
    for entry in report.provenance:
        path = store.path("evaluate", entry.key)
        if entry.stage == "evaluate" and sealed(store, path.name).record.inputs["model"] == model:
            return path
    raise StoreError(f"run {report.name} has not measured {row.model}; run its recipe again")


def sealed(store: Store, key: str) -> Artifact:
    """A sealed artifact by its key, whatever stage made it."""
    found = [path.parent.name for path in store.root.glob(f"[!.]*/{key}") if (path / RECORD).is_file()]
    artifact = store.find(found[0], key) if found else None
    if artifact is None:
        raise StoreError(f"{key} is not in the store {store.root} any more; run its recipe again")
    return artifact
