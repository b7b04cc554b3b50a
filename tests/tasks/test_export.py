"""A model copied out of the store: plain files that outlive it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from conf.spec import File, Record
from tasks.handover import upload
from tasks.handover.export import export
from tests.fixtures.artifacts import write_record
from tests.fixtures.report import report, row

CONTENT = {"config.json": "{}", "model.safetensors": "weights"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a run `mine` of a teacher and a published student."""
    root = tmp_path / "store"
    rows = []
    for model, stage in (("teacher", "teacher"), ("depth", "distill")):
        folder = root / stage / "k"
        write_record(folder, stage, "k", {}, {})
        (folder / "model").mkdir()
        for name, content in CONTENT.items():
            (folder / "model" / name).write_text(content)
        record = Record.model_validate_json((folder / "artifact.json").read_text())
        sealed = {
            f"model/{name}": File(bytes=len(content), sha256=hashlib.sha256(content.encode()).hexdigest())
            for name, content in CONTENT.items()
        }
        (folder / "artifact.json").write_text(record.model_copy(update={"files": sealed}).model_dump_json())
        measured = row(model, stage, student=None if model == "teacher" else model)
        rows.append(measured.model_copy(update={"path": f"{folder}/model"}))
    run = root / "runs" / "mine"
    published = run / "published" / "depth"
    published.mkdir(parents=True)
    for name in CONTENT:
        (published / name).symlink_to(os.path.relpath(root / "distill" / "k" / "model" / name, published))
    (published / "README.md").write_text("# card")
    (run / "report.json").write_text(report(*rows, name="mine").model_dump_json())
    return root


def test_an_exported_student_is_plain_files_with_its_card(root: Path, tmp_path: Path) -> None:
    done = export(root, "mine/depth", tmp_path / "out" / "depth")
    assert {path.name: path.read_text() for path in done.folder.iterdir()} == CONTENT | {"README.md": "# card"}
    assert not any(path.is_symlink() for path in done.folder.iterdir())
    assert (done.files, done.bytes) == (3, sum(map(len, CONTENT.values())) + len("# card"))
    assert [path.name for path in done.folder.parent.iterdir()] == ["depth"]


def test_a_teacher_is_exported_without_a_card(root: Path, tmp_path: Path) -> None:
    done = export(root, "mine/teacher", tmp_path / "out")
    assert {path.name for path in done.folder.iterdir()} == set(CONTENT)


def test_an_empty_folder_is_filled(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert export(root, "mine/depth", tmp_path / "out").files == 3


@pytest.mark.parametrize(
    ("target", "folder", "told"),
    [
        ("mine/nope", "out", "run mine has no model nope"),
        ("nope/depth", "out", "there is no finished run nope"),
        ("mine/depth", "full", "full is not empty; choose another folder"),
        ("mine/depth", "file", "file is a file; choose a folder"),
        ("mine/depth", "file/out", "cannot be written"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(
    target: str, folder: str, told: str, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=told):
        export(root, target, tmp_path / folder)
    assert (tmp_path / "full" / "mine").read_text() == "mine" == (tmp_path / "file").read_text()
    assert not (tmp_path / "out").exists()


def test_files_that_are_gone_or_changed_are_told(root: Path, tmp_path: Path) -> None:
    weights = root / "distill" / "k" / "model" / "model.safetensors"
    weights.write_text("other weights")
    with pytest.raises(ValueError, match="has changed since it was sealed"):
        export(root, "mine/depth", tmp_path / "out")
    weights.unlink()
    with pytest.raises(ValueError, match="are no longer in the store"):
        export(root, "mine/depth", tmp_path / "out")
    with pytest.raises(ValueError, match="is no longer in the store; run the recipe again, then push"):
        upload.files(root / "runs" / "mine" / "published" / "depth")
    assert not (tmp_path / "out").exists()
