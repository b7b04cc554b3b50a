"""Finds models of runs in the store by RUN/MODEL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conf.stages.evaluate import EvaluateConfig
from tasks.store.runs import finished, is_finished, model_of, scores_of, sealed
from tasks.store.store import RECORD, Artifact, Store, StoreError


@dataclass(frozen=True, kw_only=True)
class Known:
    """A sealed model of a run, and what it was evaluated with."""

    artifact: Artifact
    teacher: Artifact
    teacher_name: str
    data: Artifact
    evaluate: EvaluateConfig


def check_reference(root: Path, reference: str, *, has_text: bool) -> None:
    """Raise StoreError for a model that is neither in the store nor a directory nor a hub id, or that has no text.
    Reads names only, so that a wrong one costs nothing."""
    run, _, model = reference.partition("/")
    if model and "/" not in model and is_finished(root, run):
        folder = Path(model_of(root, reference).row.path).parent
        if not (folder / RECORD).is_file():
            raise StoreError(f"{reference} is no longer in the store ({folder}); run its recipe again")
        return
    path = Path(reference)
    if not path.is_dir() and (reference.count("/") != 1 or path.is_absolute() or reference.startswith(".")):
        raise StoreError(
            f"the model {reference} is neither RUN/MODEL of the store nor a directory nor a hub id; check its name"
        )
    if not has_text:
        known = ", ".join(finished(root)) or "none"
        raise StoreError(
            f"{reference} is not a RUN/MODEL of the store {root} (finished runs: {known}), so it has no text; check its"
            " name, or set data.source, for instance data.source=corpus.jsonl"
        )


def of_run(store: Store, reference: str) -> Known | None:
    """The model RUN/MODEL; None if there is no such run. Raises StoreError if the run does not have the model."""
    run, _, model = reference.partition("/")
    if not model or "/" in model or not is_finished(store.root, run):
        return None
    finished = model_of(store.root, reference)
    artifact = sealed(store, Path(finished.row.path).parent.name)
    record = sealed(store, scores_of(store, finished.report, finished.row).name).record
    teacher, data = (sealed(store, record.inputs[role]) for role in ("teacher", "data"))
    taught_by = finished.report.teacher or "teacher"
    return Known(
        artifact=artifact,
        teacher=teacher,
        teacher_name=taught_by if "/" in taught_by else f"{run}/{taught_by}",
        data=data,
        evaluate=EvaluateConfig.model_validate(record.config),
    )
