"""A run under another name: folder, report and links."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.report.renaming import rename
from tasks.store import use
from tasks.store.runs import read_report
from tests.fixtures.report import report, row


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a finished run `mine` that links an artifact, and an unfinished one, `half`."""
    folder = tmp_path / "runs" / "mine"
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "overview.svg").write_text("<svg>drawn</svg>")
    (folder / "report.json").write_text(report(row("teacher", "teacher"), name="mine").model_dump_json())
    (tmp_path / "data" / "k").mkdir(parents=True)
    (folder / "data").symlink_to("../../data/k")
    (tmp_path / "runs" / "half").mkdir()
    return tmp_path


def test_a_renamed_run_has_its_name_in_its_report(root: Path) -> None:
    folder = rename(root, "mine", "better")
    assert folder == root / "runs" / "better" and not (root / "runs" / "mine").exists()
    assert read_report(folder).name == "better"
    assert (folder / "report.md").read_text().startswith("# better\n")
    assert "<svg>drawn</svg>" in (folder / "report.html").read_text()
    assert (folder / "data").resolve() == root / "data" / "k"


def test_an_unfinished_run_can_be_renamed(root: Path) -> None:
    assert rename(root, "half", "whole").is_dir()


@pytest.mark.parametrize(
    ("run", "name", "told"),
    [
        ("nope", "better", "there is no run nope"),
        ("mine", "half", "there is a run half already"),
        ("mine", "mine", "run mine is already called mine"),
        ("mine", "../better", "use up to 64 letters"),
    ],
)
def test_what_cannot_be_renamed_is_one_sentence(run: str, name: str, told: str, root: Path) -> None:
    with pytest.raises(ValueError, match=told):
        rename(root, run, name)
    assert (root / "runs" / "mine").is_dir() and (root / "runs" / "half").is_dir()


def test_a_running_run_keeps_its_name(root: Path) -> None:
    with use.running(root, "half"), pytest.raises(ValueError, match="run half is running"):
        rename(root, "half", "whole")


def test_a_killed_renaming_is_finished_by_the_next(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            rename(root, "mine", "better")
    assert json.loads((root / "runs" / "mine" / "report.json").read_text())["name"] == "better"
    assert rename(root, "mine", "better").is_dir()
