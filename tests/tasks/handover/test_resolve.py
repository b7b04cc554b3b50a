"""What a model is called on the command line: RUN/MODEL or a folder, and names that are neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.handover.resolve import directory
from tasks.store.runs import model_of


@pytest.mark.parametrize("place", ["model", "."])
def test_a_models_folder_is_found_with_or_without_its_parent(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    (folder / place).mkdir(parents=True)
    (folder / place / "config.json").write_text("{}")
    assert directory(tmp_path / "store", str(folder)) == (folder / place, "tiny")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("{here}/none", "{here}/none does not exist; name"),
        ("./none", "./none does not exist; name"),
        ("a/b/c", "a/b/c does not exist; name"),
        ("{here}", "{here} is a folder without config.json; name"),
        ("{here}/file", "{here}/file is a file; name"),
        ("none", "there is no finished run none in {here}/store; finished runs: none"),
        ("none/depth", "there is no finished run none in {here}/store; finished runs: none"),
    ],
)
def test_what_is_no_model_is_told(name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError) as caught:
        directory(tmp_path / "store", name.format(here=tmp_path))
    assert str(caught.value).startswith(told.format(here=tmp_path))


@pytest.mark.parametrize("name", ["/depth", "", "..", "./x/y", "run/a/b", "a b/depth"])
def test_what_is_not_run_and_model_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        model_of(tmp_path, name)
    assert str(caught.value) == f"{name} is not RUN/MODEL; name a model of a finished run in {tmp_path}: none"
