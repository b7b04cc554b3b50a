"""The report of made-up scores: every row, every difference, and the truth about what the numbers do not say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from conf.load import load
from conf.spec import Record
from tasks.report import Measured, write_report

ASKED = 200


def scores(correct: int, loss: float, **more: Any) -> dict[str, Any]:
    base = {"num_params": 1000, "bytes": 2000, "val_loss": loss, "perplexity": 2.7182818**loss, "val_tokens": 512, "kl_teacher": 0.1}
    asked = {"mmlu": correct / ASKED, "mmlu_n": ASKED, "mmlu_ci95": [correct / ASKED - 0.05, correct / ASKED + 0.05], "mmlu_chance": 0.25}
    return base | asked | {"shots": 0, "agreement_teacher": 0.9, "tokens_per_second": 10.0, "simulated": False} | more


def artifact(folder: Path, stage: str, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    record = Record(
        stage=stage,
        key=folder.name,
        revision=1,
        config={},
        hashed={},
        inputs={},
        files={},
        seconds=1.5,
        created="2026-01-01T00:00:00",
        versions={"torch": "1"},
    )
    (folder / "artifact.json").write_text(record.model_dump_json())
    return folder


def measured(root: Path, model: str, stage: str, correct: int, loss: float, **more: Any) -> Measured:
    """A model whose first `correct` answers are right."""
    items = [json.dumps({"subject": "s", "index": index, "correct": index < correct}) for index in range(ASKED)]
    curve = [{"step": step, "total": 10, "time": 0, "values": {"val_loss": loss + 1 / (step + 1), "val_kl": 1.0}} for step in (0, 5, 5, 10)]
    made = artifact(root / f"made-{model}", stage, {"metrics.jsonl": "\n".join(map(json.dumps, curve)) + "\n"})
    told = artifact(
        root / f"scores-{model}", "evaluate", {"scores.json": json.dumps(scores(correct, loss, **more)), "items.jsonl": "\n".join(items)}
    )
    student = None if stage == "teacher" else model.split("-")[0]
    return Measured(
        model=model,
        stage=stage,
        student=student,
        format=model.split("-")[1] if stage == "quantize" else None,
        path=f"{made}/model",
        scores=str(told),
        training=str(made) if stage == "distill" else None,
    )


@pytest.fixture
def models(tmp_path: Path) -> list[Measured]:
    return [
        measured(tmp_path, "teacher", "teacher", 180, 1.0),
        measured(tmp_path, "small-pruned", "prune", 100, 2.0, num_params=500),
        measured(tmp_path, "small", "distill", 164, 1.2, num_params=500),
        measured(tmp_path, "small-fp8", "quantize", 163, 1.21, num_params=500, simulated=True, tokens_per_second=None),
    ]


def test_rows_differences_and_what_was_won_back(models: list[Measured], tmp_path: Path) -> None:
    report = write_report(tmp_path / "run", "mine", load("demo"), models)
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report
    rows = {row["model"]: row for row in report["rows"]}
    assert list(rows) == ["teacher", "small-pruned", "small", "small-fp8"]
    assert rows["small-pruned"]["against_teacher"]["mmlu"] == pytest.approx(-0.4)
    assert rows["small-pruned"]["against_teacher"]["mmlu_ci95"][1] < -0.3
    assert rows["small"]["recovered"] == {"nats": pytest.approx(0.8), "points": pytest.approx(0.8)}
    assert rows["small-fp8"]["against_student"]["model"] == "small"
    assert rows["small-fp8"]["against_student"]["val_loss"] == pytest.approx(0.01)
    assert rows["small-fp8"]["tokens_per_second"] is None
    assert report["curves"]["small"]["step"] == [0.0, 5.0, 10.0], "a step that was repeated after a restart counts once"
    told = " ".join(report["meaning"])
    assert "won back 80% of the lost nats and 80% of the lost points" in told
    assert "no shown difference in score" in told
    assert "simulated by ModelOpt" in told


def test_a_score_at_chance_is_called_that(models: list[Measured], tmp_path: Path) -> None:
    guessing = [measured(tmp_path, "teacher2", "teacher", 52, 1.0).model_copy(update={"model": "teacher"}), *models[1:]]
    report = write_report(tmp_path / "run", "mine", load("demo"), guessing)
    assert "is at chance (25%)" in report["meaning"][0]
    assert "noise" in report["meaning"][0]


def test_a_run_without_questions_judges_by_loss(tmp_path: Path) -> None:
    none = {"mmlu": None, "mmlu_n": None, "mmlu_ci95": None, "mmlu_chance": None}
    both = [measured(tmp_path, "teacher", "teacher", 0, 1.0, **none), measured(tmp_path, "small-pruned", "prune", 0, 2.0, **none)]
    for model in both:
        (Path(model.scores) / "items.jsonl").unlink()
    report = write_report(tmp_path / "run", "mine", load("demo"), both)
    assert report["rows"][1]["against_teacher"]["mmlu"] is None
    assert report["rows"][1]["mmlu"] is None
    assert "+1.000 nats" in " ".join(report["meaning"])


def test_the_page_needs_no_other_file_and_believes_no_name(models: list[Measured], tmp_path: Path) -> None:
    write_report(tmp_path / "run", "<script>alert(1)</script>", load("demo"), models)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    links = [link for link in re.findall(r"""(?:src|href)=["']([^"']+)""", page) if not link.startswith("#")]
    assert links == []
    assert page.count("<svg") == 2
    markdown = (tmp_path / "run" / "report.md").read_text()
    assert all(f"| {model.model} |" in markdown for model in models)
