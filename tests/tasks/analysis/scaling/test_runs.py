"""Points from finished runs: which models are points, and when losses cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.report.report import Report
from tasks.analysis.scaling.runs import read_runs
from tests.fixtures.report import artifact, report, row

KEPT = {"keep": "last", "trained": 10, "steps": 10, "step": 10, "stopped": None, "best_by": "val_loss", "best": 1.0}


def learned(tokens: int, **kept: Any) -> dict[str, Any]:
    """The training of a student on so many tokens."""
    fields: dict[str, Any] = {"tokens": [0, tokens], "val_loss": [2.0, 1.0], "val_kl": [], "fitted": "val_loss"}
    fields |= {"evaluated": {}, "law": {"undetermined": "few"}, "backtest": None}
    return fields | {"kept": KEPT | {"tokens": tokens} | kept}


def run(root: Path, name: str, *, data: str = "text", sequences: int = 8, teacher: str = "teach", **more: Any) -> None:
    """A finished run with a teacher and two students, of 100 and 200 parameters; `more`: fields of its report."""
    rows, made = [], []
    models = (("teacher", teacher, 1000, 1.5), ("a", f"{name}-a", 100, 2.5), ("b", f"{name}-b", 200, 2.25))
    for model, key, params, loss in models:
        stage = "teacher" if model == "teacher" else "distill"
        if not (root / stage / key).exists():
            _sealed(root / stage / key, stage, {"shape": {"num_layers": 1}, "steps": 5, "model": None})
        _sealed(root / "evaluate" / f"{name}-{model}", "evaluate", {"sequences": sequences}, data=data, model=key)
        path = str(root / stage / key / "model")
        rows.append(row(model, stage, num_params=params, val_loss=loss, path=path))
        made.append(_provenance(f"{name}-{model}"))
    fields = {"name": name, "provenance": made, "learning": {"a": learned(5000), "b": learned(6000)}} | more
    made_report: Report = report(*rows, **fields)
    (root / "runs" / name).mkdir(parents=True)
    (root / "runs" / name / "report.json").write_text(json.dumps(made_report.model_dump(mode="json")))


def _provenance(key: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"label": key, "stage": "evaluate", "key": key, "seconds": 1.0, "created": "2026-01-01"}
    return empty | {"versions": {}, "repeat": "python"}


def _sealed(folder: Path, stage: str, config: dict[str, Any], **inputs: str) -> None:
    artifact(folder, stage, {}, inputs)
    record = json.loads((folder / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps(record | {"config": record["config"] | config}))


def test_students_are_points_above_their_teacher(tmp_path: Path) -> None:
    run(tmp_path, "one")
    run(tmp_path, "two")
    found = read_runs(tmp_path, ["one", "two"], "students")
    points = [("a", 100.0, 5000.0, 2.5), ("b", 200.0, 6000.0, 2.25)]
    assert found.rows == [(f"{name}/{model}", *rest) for name in ("one", "two") for model, *rest in points]
    assert (found.teacher_loss, found.teacher_params, found.left_out) == (1.5, 1000.0, ())


def test_teachers_trained_from_scratch_are_points(tmp_path: Path) -> None:
    run(tmp_path, "one")
    run(tmp_path, "two", teacher="other")
    run(tmp_path, "three")
    record = tmp_path / "teacher" / "other" / "artifact.json"
    content = json.loads(record.read_text())
    content["config"] |= {"shape": None, "model": "stories"}
    record.write_text(json.dumps(content))
    found = read_runs(tmp_path, ["one", "two", "three"], "teachers")
    assert found.rows == [("one/teacher", 1000.0, 5.0 * 2 * 8, 1.5)]
    assert found.teacher_loss == 0.0
    assert found.left_out == (
        "two/teacher is no point: it was imported, so the tokens that it was trained on are not known",
        "three/teacher is the same model as one/teacher and counts once",
    )


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"learning": {"a": learned(5000, stopped="no gain"), "b": learned(6000)}}, "before its schedule had ended"),
        ({"learning": {"a": learned(5000, step=7), "b": learned(6000)}}, "those of step 7 of 10"),
        ({"learning": {"b": learned(6000)}}, "its training was not recorded"),
        ({"rounds": {"a": 2}}, "in several rounds"),
    ],
)
def test_a_model_made_otherwise_is_left_out_and_told(fields: dict[str, Any], why: str, tmp_path: Path) -> None:
    run(tmp_path, "one", **fields)
    found = read_runs(tmp_path, ["one"], "students")
    assert [name for name, *_ in found.rows] == ["one/b"]
    assert len(found.left_out) == 1 and why in found.left_out[0]


@pytest.mark.parametrize("other", [{"data": "another text"}, {"sequences": 9}])
def test_losses_on_different_text_are_refused(other: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path, "one")
    run(tmp_path, "two", **other)
    with pytest.raises(ValueError, match="runs one and two measured their losses on different text"):
        read_runs(tmp_path, ["one", "two"], "students")


def test_students_of_different_teachers_are_refused(tmp_path: Path) -> None:
    run(tmp_path, "one")
    run(tmp_path, "two", teacher="other")
    with pytest.raises(ValueError, match="the students of runs one, two had different teachers"):
        read_runs(tmp_path, ["one", "two"], "students")


def test_a_run_that_is_not_there_and_one_without_points(tmp_path: Path) -> None:
    run(tmp_path, "one", rounds={"a": 2, "b": 2})
    with pytest.raises(ValueError, match="there is no finished run none"):
        read_runs(tmp_path, ["none"], "students")
    with pytest.raises(ValueError, match="one: there are no students to fit; one/a is no point: it was pruned"):
        read_runs(tmp_path, ["one"], "students")
