"""The section on documents that were kept apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.report.model import ReportModel
from tasks.report.sections.documents import read_documents, section

MIXED = [(1, 3.0, 1.0, 0.02), (2, 2.0, 0.5, 0.01), (2, 1.0, 0.5, 0.01)]


def trained(folder: Path, stage: str, steps: list[tuple[int, float, float, float]]) -> ReportModel:
    folder.mkdir()
    lines: list[dict[str, Any]] = [{"step": 0, "values": {"val_loss": 4.0}}]
    for step, documents, mixed, left_out in steps:
        values = {"documents_per_sequence": documents, "mixed_sequences": mixed, "targets_left_out": left_out}
        lines.append({"step": step, "values": values})
    lines.append({"step": 3, "values": {"grad_norm": 1.0}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    common: dict[str, Any] = {"student": None, "format": None, "scores": "", "training": None}
    return ReportModel(model=stage, stage=stage, path=str(folder / "model"), **common)


def test_trainings_with_a_mask_have_a_row(tmp_path: Path) -> None:
    """Means over steps, of which the last line counts."""
    models = [trained(tmp_path / stage, stage, MIXED) for stage in ("teacher", "distill", "sft")]
    text = section(read_documents(models))
    assert text and text.rows == (
        ("teacher", "2.00", "75.0%", "1.50%"),
        ("distill", "2.00", "75.0%", "1.50%"),
    )


def test_without_a_mask_there_is_no_section(tmp_path: Path) -> None:
    models = [trained(tmp_path / "teacher", "teacher", [])]
    (tmp_path / "none").mkdir()
    models.append(models[0].model_copy(update={"path": str(tmp_path / "none" / "model")}))
    assert read_documents(models) == {}
    assert section({}) is None
