"""Finished runs of a store: their reports, models and sealed scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.store.store import RECORD, Artifact, Store, StoreError

PUBLISHED = "published"
"""Folder in a run's folder for students with their model cards."""


def scores_of(store: Store, report: dict[str, Any], row: dict[str, Any]) -> Path:
    """The sealed scores behind a row of a report."""
    model = Path(row["path"]).parent.name
    for entry in report["made"]:
        path = store.path("evaluate", entry["key"])
        if entry["stage"] == "evaluate" and sealed(store, path.name).record.inputs["model"] == model:
            return path
    raise StoreError(f"run {report['name']} has no scores of {row['model']}; run its recipe again")


def sealed(store: Store, key: str) -> Artifact:
    """A sealed artifact by key, of any stage."""
    stages = [path.parent.name for path in store.root.glob(f"[!.]*/{key}") if (path / RECORD).is_file()]
    artifact = store.find(stages[0], key) if stages else None
    if artifact is None:
        raise StoreError(f"{key} is no longer in the store {store.root}; run its recipe again")
    return artifact
