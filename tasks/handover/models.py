"""Finds models of runs in the store by RUN/MODEL."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from conf.stages.evaluate import EvaluateConfig
from tasks.store.runs import scores_of, sealed
from tasks.store.store import Artifact, Store, StoreError


@dataclass(frozen=True, kw_only=True)
class Known:
    """A sealed model of a run, and what it was evaluated with."""

    artifact: Artifact
    teacher: Artifact
    data: Artifact
    evaluate: EvaluateConfig


def of_run(store: Store, reference: str) -> Known | None:
    """The model RUN/MODEL; None if there is no such run. Raises StoreError if the run does not have the model."""
    run, _, model = reference.partition("/")
    file = store.root / "runs" / run / "report.json"
    if not model or "/" in model or run.startswith(".") or not file.is_file():
        return None
    report = json.loads(file.read_text())
    rows = {row["model"]: row for row in report["rows"]}
    if model not in rows:
        raise StoreError(f"run {run} has no model {model}; choose one of {', '.join(rows) or 'another run'}")
    artifact = sealed(store, Path(rows[model]["path"]).parent.name)
    record = sealed(store, scores_of(store, report, rows[model]).name).record
    teacher, data = (sealed(store, record.inputs[role]) for role in ("teacher", "data"))
    return Known(artifact=artifact, teacher=teacher, data=data, evaluate=EvaluateConfig.model_validate(record.config))
