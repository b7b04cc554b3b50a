"""Models by the names people have for them: one of a run in the store, a Hugging Face directory, or a hub id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.clusters import Cluster
from conf.data import DataConfig
from conf.evaluate import EvaluateConfig
from conf.placed import placed_alone
from conf.teacher import TeacherConfig
from tasks import external, hub
from tasks.data import data as data_stage
from tasks.fetch import fetch
from tasks.store import RECORD, Artifact, Store, StoreError
from tasks.teacher import teacher as teacher_stage


@dataclass(frozen=True, kw_only=True)
class Known:
    """A sealed model of a run, and what its run measured it with."""

    artifact: Artifact
    teacher: Artifact
    data: Artifact
    evaluate: EvaluateConfig


def of_run(store: Store, reference: str) -> Known | None:
    """The model that RUN/MODEL names; None where there is no such run in the store. Raises StoreError where the run lacks the model."""
    run, _, model = reference.partition("/")
    file = store.root / "runs" / run / "report.json"
    if not model or "/" in model or run.startswith(".") or not file.is_file():
        return None
    report = json.loads(file.read_text())
    rows = {row["model"]: row for row in report["rows"]}
    if model not in rows:
        raise StoreError(f"run {run} has no model {model}; choose one of {', '.join(rows) or 'another run'}")
    artifact = _sealed(store, Path(rows[model]["path"]).parent.name)
    record = _sealed(store, scores_of(store, report, rows[model]).name).record
    teacher, data = (_sealed(store, record.inputs[role]) for role in ("teacher", "data"))
    return Known(artifact=artifact, teacher=teacher, data=data, evaluate=EvaluateConfig.model_validate(record.config))


def scores_of(store: Store, report: dict[str, Any], row: dict[str, Any]) -> Path:
    """The sealed scores behind a row of a report."""
    model = Path(row["path"]).parent.name
    for entry in report["made"]:
        path = store.path("evaluate", entry["key"])
        if entry["stage"] == "evaluate" and _sealed(store, path.name).record.inputs["model"] == model:
            return path
    raise StoreError(f"run {report['name']} has not measured {row['model']}; run its recipe again")


def _sealed(store: Store, key: str) -> Artifact:
    """A sealed artifact by its key, whatever stage made it."""
    found = [path.parent.name for path in store.root.glob(f"[!.]*/{key}") if (path / RECORD).is_file()]
    artifact = store.find(found[0], key) if found else None
    if artifact is None:
        raise StoreError(f"{key} is not in the store {store.root} any more; run its recipe again")
    return artifact


def imported(store: Store, cluster: Cluster, reference: str, text: DataConfig | None) -> tuple[Artifact, Artifact]:
    """A model from outside and the corpus in its tokens, both through the stages that a recipe uses. Runs inside a flow."""
    if text is None:
        raise StoreError(
            f"{reference} is no RUN/MODEL of the store {store.root}, so its text is not known; give data.source, for instance "
            "data.source=corpus.jsonl"
        )
    path = Path(reference)
    if not path.is_dir() and (reference.count("/") != 1 or path.is_absolute() or reference.startswith(".")):
        raise StoreError(f"the model {reference} is neither RUN/MODEL of the store, nor a directory, nor a hub id; check its name")
    label = _label(reference)
    model = (
        external.local(store, "model", path) if path.is_dir() else fetch.submit(f"fetch-{label}", hub.fetching(reference, store)).result()
    )
    text = hub.pinned(text, store)
    words = external.words(text, store, model)
    corpus = data_stage.submit(f"data-{label}", text, source=external.text(text, store), tokenizer=words).result()
    taken = TeacherConfig(model=reference, steps=0, seq_length=8, global_batch=1, micro_batch=1, lr=1.0, min_lr=0.0, warmup_steps=0)
    return teacher_stage.submit(label, placed_alone(taken, cluster), data=corpus, model=model).result(), corpus


def _label(reference: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-._" else "-" for sign in Path(reference).name) or "model"
