"""The z-loss in whole trainings: it keeps the logits' level near 0, is logged apart, and adds nothing where it is
off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.jobs import SHAPE, TRAINING, last, run_job

pytestmark = pytest.mark.slow
STEPS = 20
SHORT: dict[str, Any] = TRAINING | {"steps": STEPS, "validate_every": STEPS}


def test_a_teacher_s_logits_are_steadied(corpus: Path, tmp_path: Path) -> None:
    """The plain loss stays what is compared; the objective is the two together."""
    config = SHORT | {"shape": SHAPE}
    free = run_job("teacher", config | {"z_loss": 1e-12}, {"data": corpus}, tmp_path / "free")
    held = run_job("teacher", config | {"z_loss": 0.5}, {"data": corpus}, tmp_path / "held")
    assert last(held, "val_z_loss") < 0.5 * last(free, "val_z_loss")
    assert last(held, "train_objective") == pytest.approx(
        last(held, "train_loss") + 0.5 * last(held, "train_z_loss"), rel=1e-5
    )
    plain = run_job("teacher", config, {"data": corpus}, tmp_path / "plain")
    assert last(plain, "val_loss") == pytest.approx(last(free, "val_loss"), abs=1e-3)
    assert "z_loss" not in (plain / "metrics.jsonl").read_text()


@pytest.mark.drill
def test_a_student_has_it_beside_its_teacher(corpus: Path, teacher: Path, student: Path, tmp_path: Path) -> None:
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    config = SHORT | {"ce_share": 0.3, "z_loss": 0.01}
    taught = run_job("distill", config, inputs, tmp_path / "student")
    values = json.loads((taught / "metrics.jsonl").read_text().splitlines()[-1])["values"]
    parts = 0.7 * values["train_divergence"] + 0.3 * values["train_loss"] + 0.01 * values["train_z_loss"]
    assert values["train_objective"] == pytest.approx(parts, rel=1e-5)
