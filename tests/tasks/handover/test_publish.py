"""Folders of published students: links to sealed files, the card, and a licence's texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.load import load
from conf.report.report import Report
from tasks.handover import card
from tasks.handover.licences import Licence
from tasks.handover.publish import publish, terms
from tests.fixtures.report import report, row

ALONE = ["distill=null", "quantize=[]"]


@pytest.fixture(autouse=True)
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "write", lambda recipe, report, row: (f"card of {row.model}", Licence()))


def made(store: Path, *models: tuple[str, str, str]) -> Report:
    """A report of models with their stages and students, whose files are in the store."""
    rows = []
    for model, stage, student in models:
        folder = store / stage / model / "model"
        (folder / "extra").mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "README.md"):
            (folder / name).write_text(f"{name} of {model}")
        rows.append(row(model, stage, student=student or None, path=str(folder)))
    return report(*rows)


MODELS = (
    ("teacher", "teacher", ""),
    ("depth-pruned", "prune", "depth"),
    ("depth", "distill", "depth"),
    ("depth-fp8", "quantize", "depth"),
    ("other", "distill", "other"),
)


def published(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "published").iterdir())


def test_what_was_taught_is_published_with_its_card(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    publish(run, load("demo"), made(tmp_path, *MODELS))
    assert published(run) == ["depth", "depth-fp8"]
    folder = run / "published" / "depth"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json"]
    link = folder / "config.json"
    assert link.is_symlink() and not link.readlink().is_absolute() and link.read_text() == "config.json of depth"
    assert (folder / "README.md").read_text() == "card of depth" and not (folder / "README.md").is_symlink()
    sealed = tmp_path / "distill" / "depth" / "model" / "README.md"
    assert sealed.read_text() == "README.md of depth", "what is sealed never changes"
    assert [path.name for path in run.iterdir()] == ["published"]


def test_a_student_that_is_only_cut_is_published(tmp_path: Path) -> None:
    publish(tmp_path, load("demo", ALONE), made(tmp_path, *MODELS[:2]))
    assert published(tmp_path) == ["depth-pruned"]


def test_an_earlier_runs_folders_are_replaced(tmp_path: Path) -> None:
    for name in ("published/gone", "published/depth/old"):
        (tmp_path / name).mkdir(parents=True)
    publish(tmp_path, load("demo"), made(tmp_path / "store", *MODELS))
    assert published(tmp_path) == ["depth", "depth-fp8"] and not (tmp_path / "published" / "depth" / "old").exists()
    publish(tmp_path, load("demo"), made(tmp_path / "store", MODELS[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("notice", [True, False])
def test_a_licence_comes_with_its_notice(notice: bool, tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("terms")
    if notice:
        (tmp_path / "NOTICE").write_text("names")
    folder = tmp_path / "published"
    folder.mkdir()
    terms(folder, Licence(text=tmp_path / "LICENSE"))
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"LICENSE": "terms"} | (
        {"NOTICE": "names"} if notice else {}
    )
    (folder / "LICENSE").write_text("its own")
    terms(folder, Licence(text=tmp_path / "LICENSE"))
    assert (folder / "LICENSE").read_text() == "its own"
    terms(folder, Licence())
