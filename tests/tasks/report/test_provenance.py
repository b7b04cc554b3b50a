"""How the artifacts behind a report were built."""

from __future__ import annotations

from pathlib import Path

from conf.spec import Attempt, Record
from tasks.report.model import ReportModel
from tasks.report.provenance import provenance
from tests.fixtures.report import artifact, models  # noqa: F401 - a fixture


def retried(folder: Path, *ends: str) -> str:
    record = Record.model_validate_json((folder / "artifact.json").read_text())
    attempts = tuple(Attempt.model_validate({"reason": end, "seconds": 9.0, "steps": 4}) for end in ends)
    (folder / "artifact.json").write_text(record.model_copy(update={"attempts": attempts}).model_dump_json())
    return str(folder)


def test_models_and_scores_have_an_entry_each(models: list[ReportModel]) -> None:
    entries = provenance(models[:2], {})
    assert [entry.label for entry in entries] == [
        "teacher",
        "small-pruned",
        "teacher (scores)",
        "small-pruned (scores)",
    ]
    first = entries[0]
    assert (first.stage, first.key, first.seconds) == ("teacher", "made-teacher", 1.5)
    folder = Path(models[0].path).parent
    assert first.repeat == f"python -m jobs.teacher --spec {folder}/spec.json"


def test_other_stages_count_where_they_were_retried(models: list[ReportModel], tmp_path: Path) -> None:
    stages = {
        "logits": retried(artifact(tmp_path / "logits", "logits", {}), "time", "preempted", "done"),
        "data": retried(artifact(tmp_path / "data", "data", {}), "done"),
    }
    entries = provenance(models[:1], stages)
    assert [entry.label for entry in entries] == ["teacher", "teacher (scores)", "logits"]
    assert [attempt.reason for attempt in entries[2].attempts] == ["time", "preempted", "done"]


def test_a_model_shows_attempts_if_it_took_several(models: list[ReportModel]) -> None:
    folder = Path(models[0].path).parent
    retried(folder, "done")
    assert provenance(models[:1], {})[0].attempts == ()
    retried(folder, "time", "done")
    assert len(provenance(models[:1], {"teacher": str(folder)})[0].attempts) == 2
    assert len(provenance(models[:1], {"teacher": str(folder)})) == 2
