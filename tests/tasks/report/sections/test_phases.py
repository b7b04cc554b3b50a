"""The section on trainings in phases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.spec import Record
from conf.stages.teacher import TeacherConfig
from tasks.report.model import ReportModel
from tasks.report.sections.phases import read_phases, section

SETTINGS: dict[str, Any] = {"steps": 20, "seq_length": 64, "global_batch": 16, "micro_batch": 4, "lr": 1e-3}
SETTINGS |= {"min_lr": 1e-5, "warmup_steps": 2, "model": "a/b"}
PHASES = [{"until": 0.5}, {"until": 1, "seq_length": 128, "rope_theta": 5e4, "schedule": "linear"}]


def trained(folder: Path, **more: Any) -> ReportModel:
    config = TeacherConfig.model_validate(SETTINGS | more).model_dump(mode="json")
    record = Record.model_construct(config=config)
    known = {name: field for name, field in Record.model_fields.items() if field.is_required() and name != "config"}
    filled = {name: {} if "dict" in str(field.annotation) else "x" for name, field in known.items()}
    filled |= {name: 0 for name, field in known.items() if field.annotation in (int, float)}
    (folder / "artifact.json").write_text(json.dumps(filled | {"config": record.config}))
    lines = [{"step": step, "values": {"val_loss": 4 - step / 10}} for step in (0, 5, 10, 15)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    common: dict[str, Any] = {"stage": "teacher", "student": None, "format": None, "scores": "", "training": None}
    return ReportModel(model="teacher", path=str(folder / "model"), **common)


def test_every_phase_has_a_row(tmp_path: Path) -> None:
    text = section(read_phases([trained(tmp_path, phases=PHASES)]))
    assert text and text.rows == (
        ("teacher", "1", "1 to 10", "10,240", "64", "as before", "constant rate 0.001, warm-up 2", "3.0000"),
        ("teacher", "2", "11 to 20", "10,240", "128", "rotary base 50,000", "linear rate 0.001 to 1e-05", "2.5000"),
    )


def test_a_phase_without_a_validation_and_rates_of_the_section(tmp_path: Path) -> None:
    phases = [{"until": 0.8}, {"until": 0.9, "seq_length": 32}, {"until": 1}]
    text = section(read_phases([trained(tmp_path, phases=phases)]))
    assert text and [row[5:] for row in text.rows] == [
        ("as before", "the training's curve", "2.5000"),
        ("as before", "the training's curve", "-"),
        ("as before", "the training's curve", "-"),
    ]


def test_one_phase_is_no_section(tmp_path: Path) -> None:
    assert read_phases([trained(tmp_path)]) == ()
    assert section(()) is None
