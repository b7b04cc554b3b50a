"""A whole run with generated records and fine-tuning, through the command line, and its report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.fixtures.flow import RECIPE, imbik, report_of

pytestmark = pytest.mark.slow
TUNED = RECIPE.with_name("tiny-sft.yaml")
NEW = {"generate", "records", "sft-teacher", "sft-depth", "logits-sft-depth-kd", "sft-depth-kd"}


@pytest.fixture(scope="module")
def tuned(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the tiny recipe with fine-tuning has run, on top of what the tiny recipe left there."""
    store = tmp_path_factory.mktemp("sft-flow") / "store"
    shutil.copytree(finished, store, symlinks=True)
    done = imbik("run", str(TUNED), "--name", "tuned", store=store)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return store


def test_every_model_is_scored_by_its_responses(tuned: Path) -> None:
    report = report_of(tuned, "tuned")
    models = [row["model"] for row in report["rows"]]
    assert models == ["teacher", "teacher-sft", "depth-pruned", "depth", "depth-sft", "depth-fp8", *models[6:]]
    assert models[6:] == ["depth-kd-pruned", "depth-kd", "depth-kd-sft"]
    answered = {row["model"]: row for row in report["responses"]["rows"]}
    assert list(answered) == models
    assert answered["depth-sft"]["loss"] < answered["depth"]["loss"]
    assert answered["teacher-sft"]["loss"] < answered["teacher"]["loss"]
    (pair,) = report["responses"]["pairs"]
    assert (pair["lower_kd"], pair["higher_kd"], pair["kd_weights"]) == ("depth", "depth-kd", [0.0, 1.0])
    assert pair["loss"] == pytest.approx(answered["depth-kd-sft"]["loss"] - answered["depth-sft"]["loss"], abs=0.05)
    assert pair["loss_ci95"][0] <= pair["loss"] <= pair["loss_ci95"][1]
    quantized = next(row for row in report["rows"] if row["model"] == "depth-fp8")
    assert quantized["against_student"]["model"] == "depth-sft", "what was fine-tuned is what is quantized"
    told = (tuned / "runs" / "tuned" / "report.md").read_text()
    assert (
        "## Responses" in told
        and "The teacher answered 60 prompts; of 60 answers" in told
        and "training records were packed into" in told
    )


def test_the_teacher_that_teaches_is_the_one_asked_for(tuned: Path) -> None:
    runs = tuned / "runs" / "tuned"
    inputs = {label: json.loads((runs / label / "artifact.json").read_text())["inputs"] for label in NEW}
    key = (runs / "sft-teacher").resolve().name
    assert inputs["sft-depth-kd"]["teacher"] == key and "teacher" not in inputs["sft-depth"]
    assert inputs["sft-depth-kd"]["logits"] == (runs / "logits-sft-depth-kd").resolve().name
    assert inputs["logits-sft-depth-kd"] == {"teacher": key, "records": (runs / "records").resolve().name}
    assert inputs["records"].keys() == {"data", "source", "generated"}
    assert inputs["generate"]["teacher"] == (runs / "teacher").resolve().name


def test_a_plan_then_finds_everything(tuned: Path) -> None:
    planned = imbik("plan", str(TUNED), store=tuned)
    assert planned.returncode == 0 and "will run" not in planned.stdout
    other = imbik("plan", str(TUNED), "records.seq_length=120", store=tuned).stdout
    again = {line.split("│")[1].strip() for line in other.splitlines() if "will run" in line}
    assert again >= {"records", "sft-teacher", "sft-depth"} and not again & {
        "data",
        "teacher",
        "generate",
        "distill-depth",
    }
