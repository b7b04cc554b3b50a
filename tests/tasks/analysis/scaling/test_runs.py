"""Points from finished runs: which models are points, and when losses cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.analysis.scaling.runs import read_runs
from tests.fixtures.ladders import finished, learned

MODELS = {100: (5000, 2.5), 200: (6000, 2.25)}


def run(root: Path, name: str, **more: Any) -> None:
    """A finished run with a teacher and two students, of 100 and 200 parameters."""
    finished(root, name, MODELS, **more)


def test_students_are_points_above_their_teacher(tmp_path: Path) -> None:
    run(tmp_path, "one")
    run(tmp_path, "two")
    found = read_runs(tmp_path, ["one", "two"], "students")
    points = [("of-100", 100.0, 5000.0, 2.5), ("of-200", 200.0, 6000.0, 2.25)]
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
        (
            {"learning": {"of-100": learned(5000, stopped="no gain"), "of-200": learned(6000)}},
            "before its schedule had ended",
        ),
        ({"learning": {"of-100": learned(5000, step=7), "of-200": learned(6000)}}, "those of step 7 of 10"),
        ({"learning": {"of-200": learned(6000)}}, "its training was not recorded"),
        ({"rounds": {"of-100": 2}}, "in several rounds"),
    ],
)
def test_a_model_made_otherwise_is_left_out_and_told(fields: dict[str, Any], why: str, tmp_path: Path) -> None:
    run(tmp_path, "one", **fields)
    found = read_runs(tmp_path, ["one"], "students")
    assert [name for name, *_ in found.rows] == ["one/of-200"]
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
    run(tmp_path, "one", rounds={"of-100": 2, "of-200": 2})
    with pytest.raises(ValueError, match="there is no finished run none"):
        read_runs(tmp_path, ["none"], "students")
    with pytest.raises(ValueError, match="one: there are no students to fit; one/of-100 is no point: it was pruned"):
        read_runs(tmp_path, ["one"], "students")
