"""How the artifacts behind a report were made, from their records."""

from __future__ import annotations

from pathlib import Path

from conf.report.report import Provenance
from conf.spec import Record
from tasks.report.model import Measured


def provenance(models: list[Measured], stages: dict[str, str]) -> tuple[Provenance, ...]:
    """Of every model and its scores; of the other `stages` (folder by label) those that took more than one attempt."""
    folders = {str(Path(model.path).parent): model.model for model in models}
    folders |= {model.scores: f"{model.model} (scores)" for model in models}
    others = {folder: label for label, folder in stages.items() if folder not in folders}
    entries = []
    for folder, label in (folders | others).items():
        record = Record.model_validate_json((Path(folder) / "artifact.json").read_text())
        several = len(record.attempts) > 1
        if folder in others and not several:
            continue
        entries.append(
            Provenance(
                label=label,
                stage=record.stage,
                key=record.key,
                seconds=record.seconds,
                created=record.created,
                attempts=record.attempts if several else (),
                commit=record.commit,
                versions=record.versions,
                repeat=f"python -m jobs.{record.stage} --spec {folder}/spec.json",
            )
        )
    return tuple(entries)
