"""How the artifacts behind a report were built, from their records."""

from __future__ import annotations

from pathlib import Path

from conf.report.report import Provenance
from conf.spec import Record
from tasks.report.model import ReportModel


def provenance(models: list[ReportModel], stages: dict[str, str]) -> tuple[Provenance, ...]:
    """One entry for every model and its scores, and for each other stage that took more than one attempt; `stages` is
    the folder of each stage by label."""
    labels = {str(Path(model.path).parent): model.model for model in models}
    labels |= {model.scores: f"{model.model} (scores)" for model in models}
    other_stages = {folder: label for label, folder in stages.items() if folder not in labels}
    entries = []
    for folder, label in (labels | other_stages).items():
        record = Record.model_validate_json((Path(folder) / "artifact.json").read_text())
        retried = len(record.attempts) > 1
        if folder in other_stages and not retried:
            continue
        entries.append(
            Provenance(
                label=label,
                stage=record.stage,
                key=record.key,
                seconds=record.seconds,
                created=record.created,
                attempts=record.attempts if retried else (),
                commit=record.commit,
                versions=record.versions,
                repeat=f"python -m jobs.{record.stage} --spec {folder}/spec.json",
            )
        )
    return tuple(entries)
