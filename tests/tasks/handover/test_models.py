"""Models by RUN/MODEL: what a reference may be, and what is known of a run's model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.handover import models
from tasks.store.store import Store, StoreError
from tests.fixtures.artifacts import write_record
from tests.fixtures.report import report, row

KEYS = {name: f"{number:032x}" for number, name in enumerate(("data", "teacher", "distill", "evaluate"), 1)}


def finished(root: Path, teacher: str | None = None) -> Path:
    """A store with the finished run `mine` of a teacher and a student, whose scores have 7 sequences."""
    inputs = {role: KEYS[stage] for role, stage in (("model", "distill"), ("teacher", "teacher"), ("data", "data"))}
    for stage in KEYS:
        scored = stage == "evaluate"
        settings = {"sequences": 7} if scored else {}
        write_record(root / stage / KEYS[stage], stage, KEYS[stage], settings, inputs if scored else {})
    entry = {"label": "e", "seconds": 1, "repeat": "", "stage": "evaluate", "key": KEYS["evaluate"]}
    made = [entry | {"created": "2026-11-21", "versions": {}}]
    student = row("depth", "distill", path=str(root / "distill" / KEYS["distill"] / "model"))
    content = report(row("teacher", "teacher"), student, name="mine", teacher=teacher, provenance=made)
    (root / "runs" / "mine").mkdir(parents=True)
    (root / "runs" / "mine" / "report.json").write_text(content.model_dump_json())
    return root


def told(root: Path, reference: str, *, has_text: bool = True) -> str:
    with pytest.raises(StoreError) as caught:
        models.check_reference(root, reference, has_text=has_text)
    return str(caught.value)


def test_a_runs_model_must_still_be_there(tmp_path: Path) -> None:
    root = finished(tmp_path)
    models.check_reference(root, "mine/depth", has_text=False)
    assert told(root, "mine/none").startswith("run mine has no model none")
    (root / "distill" / KEYS["distill"] / "artifact.json").unlink()
    assert "mine/depth is no longer in the store" in told(root, "mine/depth")


@pytest.mark.parametrize("reference", ["gpt", "a/b/c", "/none/there", "./model", "../a"])
def test_what_names_no_model_is_refused(reference: str, tmp_path: Path) -> None:
    assert told(tmp_path, reference).startswith(f"the model {reference} is neither RUN/MODEL of the store nor")


def test_a_folder_or_a_hub_id_needs_text(tmp_path: Path) -> None:
    root = finished(tmp_path / "store")
    for reference in ("owner/name", str(tmp_path)):
        models.check_reference(root, reference, has_text=True)
        sentence = told(root, reference, has_text=False)
        assert sentence.startswith(f"{reference} is not a RUN/MODEL of the store {root} (finished runs: mine), so it")
    assert "(finished runs: none)" in told(tmp_path, "owner/name", has_text=False)


@pytest.mark.parametrize(
    ("teacher", "named"), [(None, "mine/teacher"), ("big", "mine/big"), ("other/big", "other/big")]
)
def test_a_model_is_known_with_its_run(teacher: str | None, named: str, tmp_path: Path) -> None:
    found = models.of_run(Store(finished(tmp_path, teacher)), "mine/depth")
    assert found is not None and found.teacher_name == named
    keys = {name: getattr(found, name).key for name in ("artifact", "teacher", "data")}
    assert keys == {"artifact": KEYS["distill"], "teacher": KEYS["teacher"], "data": KEYS["data"]}
    assert found.evaluate.sequences == 7


@pytest.mark.parametrize("reference", ["mine", "mine/depth/more", "other/depth"])
def test_no_run_is_no_model_of_one(reference: str, tmp_path: Path) -> None:
    assert models.of_run(Store(finished(tmp_path)), reference) is None
