"""What a model is called on the command line: RUN/MODEL or a folder, and names that are neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.handover import resolve
from tasks.handover.resolve import directory
from tasks.store.runs import model_of
from tasks.tracking.spool import SentState, Spool
from tests.fixtures.report import report, row


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


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the finished run `mine` of a teacher and a student."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(report(row("teacher", "teacher"), row("depth"), name="mine").model_dump_json())
    return tmp_path


def test_a_runs_model_is_called_by_both(store: Path) -> None:
    assert directory(store, "mine/depth") == (Path("/store/depth/model"), "mine-depth")


@pytest.mark.parametrize(
    ("named", "uri"), [(None, None), ("", None), ("http://me:secret@server", "http://server"), ("http://a", "http://a")]
)
def test_a_champion_is_asked_from_the_server_that_is_named(
    named: str | None, uri: str | None, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if named is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    monkeypatch.setattr(resolve, "client_of", lambda store, uri: uri)
    monkeypatch.setattr(resolve.registry, "place_of", lambda client, store, name, alias: (client, name, alias))
    assert directory(store, "depth@champion") == ((uri, "depth", "champion"), "depth")


def test_a_model_that_mlflow_does_not_know_is_not_promoted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "client_of", lambda store, uri: uri)
    monkeypatch.setattr(resolve.registry, "promote", lambda *args, force: f"{args[0]} {args[1]} {args[-1]} {force}")
    with pytest.raises(ValueError, match="mine/teacher is the teacher; promote one of its students"):
        resolve.promote(store, "mine/teacher", force=False)
    with pytest.raises(ValueError, match="run mine was never logged to MLflow; run it again"):
        resolve.promote(store, "mine/depth", force=False)
    (store / "runs" / "mine" / "tracking.json").write_text('{"flow": "f", "uri": "http://a"}')
    with pytest.raises(ValueError, match="run mine has not reached MLflow yet; start the server, then imbik sync"):
        resolve.promote(store, "mine/depth", force=False)
    Spool(store, "f").save(SentState(parent="parent"))
    assert resolve.promote(store, "mine/depth", force=True) == "http://a parent depth True"
