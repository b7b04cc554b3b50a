"""Finished runs: found in one place, and their reports read or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.store.runs import finished, folder_of, is_finished, model_of, read_report, scores_of, sealed
from tasks.store.store import Store, StoreError
from tests.fixtures.report import artifact, report, row


def run(root: Path, name: str, **fields: Any) -> Path:
    """A finished run with a teacher and a student."""
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    content = report(row("teacher", "teacher"), row("small"), name=name, **fields).model_dump(mode="json")
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def test_finished_runs_are_those_with_a_report(tmp_path: Path) -> None:
    for name in ("two", "one", ".hidden"):
        run(tmp_path, name)
    (tmp_path / "runs" / "half").mkdir()
    assert finished(tmp_path) == ["one", "two"]
    assert [is_finished(tmp_path, name) for name in ("one", "half", "none", "", ".hidden")] == [True] + [False] * 4


@pytest.mark.parametrize("name", ["three", ""])
def test_a_missing_run_names_those_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="finished runs: none"):
        folder_of(tmp_path, name)
    run(tmp_path, "one")
    run(tmp_path, "two")
    with pytest.raises(StoreError) as caught:
        folder_of(tmp_path, name)
    assert str(caught.value) == f"there is no finished run {name} in {tmp_path}; finished runs: one, two"
    assert folder_of(tmp_path, "one") == tmp_path / "runs" / "one"


@pytest.mark.parametrize(
    ("change", "stated"),
    [({"version": 2}, "has version 2"), ({"version": 0}, "has version 0"), ({"version": None}, "has no version")],
)
def test_another_version_is_one_sentence(change: dict[str, Any], stated: str, tmp_path: Path) -> None:
    file = run(tmp_path, "old") / "report.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(StoreError) as caught:
        read_report(file.parent)
    assert str(caught.value) == (
        f"{file} {stated}, but this imbik reads version 1; run old again: it reuses the store and rewrites the report"
    )


def test_a_list_has_no_version(tmp_path: Path) -> None:
    file = run(tmp_path, "old") / "report.json"
    file.write_text("[]")
    with pytest.raises(StoreError, match="has no version"):
        read_report(file.parent)


def test_a_cut_file_is_not_json(tmp_path: Path) -> None:
    file = run(tmp_path, "torn") / "report.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(StoreError, match=r"is damaged: it is not JSON \(.*\); run torn again"):
        read_report(file.parent)


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [("rows", [{"model": "x"}], "rows.0.stage"), ("name", 1, "name"), ("unknown", 1, "unknown")],
)
def test_a_damaged_report_names_the_place(field: str, value: Any, where: str, tmp_path: Path) -> None:
    file = run(tmp_path, "bad") / "report.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(StoreError) as caught:
        read_report(file.parent)
    sentence = str(caught.value)
    assert sentence.startswith(f"{file} is damaged at {where} (") and "run bad again" in sentence
    assert "\n" not in sentence


def test_a_model_is_found_with_its_run(tmp_path: Path) -> None:
    folder = run(tmp_path, "one")
    model = model_of(tmp_path, "one/small")
    assert (model.folder, model.row.model, model.report.name) == (folder, "small", "one")
    assert model.published == folder / "published" / "small"


def test_a_missing_model_names_those_there_are(tmp_path: Path) -> None:
    run(tmp_path, "one", stopped={"small-fp8": "near"})
    for target, part in (
        ("one/large", "run one has no model large; write RUN/MODEL with one of teacher, small"),
        ("one", "run one has no model (none named)"),
        ("one/small-fp8", "one/small-fp8 was not built: gate near stopped it; loosen the gate and run again"),
        ("two/small", "there is no finished run two"),
        ("one/small/model", "one/small/model is not RUN/MODEL; name a model of a finished run in"),
        ("../one/small", "../one/small is not RUN/MODEL"),
    ):
        with pytest.raises(StoreError) as caught:
            model_of(tmp_path, target)
        assert part in str(caught.value)


def entries(*keys: str) -> list[dict[str, Any]]:
    common = {"label": "l", "seconds": 1.0, "created": "c", "versions": {}, "repeat": "r"}
    return [common | {"stage": stage, "key": key} for stage, key in (key.split("/") for key in keys)]


def test_scores_are_those_of_the_rows_model(tmp_path: Path) -> None:
    artifact(tmp_path / "evaluate" / "other", "evaluate", {}, {"model": "k1"})
    wanted = artifact(tmp_path / "evaluate" / "mine", "evaluate", {}, {"model": "k2"})
    small = row("small", path="/store/distill/k2/model")
    made = report(small, provenance=entries("distill/k2", "evaluate/other", "evaluate/mine"))
    assert scores_of(Store(tmp_path), made, small) == wanted
    with pytest.raises(StoreError, match="run mine has no scores of large; run its recipe again"):
        scores_of(Store(tmp_path), made, row("large", path="/store/distill/k3/model"))


def test_an_artifact_is_found_by_its_key(tmp_path: Path) -> None:
    path = artifact(tmp_path / "distill" / "k2", "distill", {})
    found = sealed(Store(tmp_path), "k2")
    assert (found.stage, found.path) == ("distill", str(path))
    with pytest.raises(StoreError, match="k9 is no longer in the store"):
        sealed(Store(tmp_path), "k9")
