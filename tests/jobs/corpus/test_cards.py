"""A dataset's card and licence files: which of them are copied, from which commit, and what is told without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from jobs.corpus import cards


def test_terms_of_up_to_a_mebibyte_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, output = tmp_path / "snapshot", tmp_path / "output"
    (snapshot / "LICENSES").mkdir(parents=True)
    for name, size in {"README.md": 1 << 20, "LICENSE": (1 << 20) + 1, "COPYING.txt": 5, "data.csv": 5}.items():
        (snapshot / name).write_bytes(b"x" * size)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(snapshot))
    cards.copy_cards(("world", str(tmp_path / "here.txt"), "owner/name@abc"), output)
    copied = [str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()]
    assert sorted(copied) == ["cards/owner--name/COPYING.txt", "cards/owner--name/README.md"]


def test_the_named_commit_and_only_terms_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def download(name: str, *, repo_type: str, revision: str | None, allow_patterns: list[str]) -> str:
        assert (repo_type, "README.md" in allow_patterns) == ("dataset", True)
        asked.append((name, revision))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    cards.copy_cards(("owner/name@abc", "owner/other"), tmp_path / "output")
    assert asked == [("owner/name", "abc"), ("owner/other", None)]


def test_one_that_cannot_be_fetched_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "LICENCE.txt").write_text("MIT")

    def download(name: str, **_: Any) -> str:
        if name == "owner/gone":
            raise ConnectionError("no network")
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    (tmp_path / "output" / "cards" / "owner--here").mkdir(parents=True)  # by an attempt before
    cards.copy_cards(("owner/gone", "owner/here"), tmp_path / "output")
    assert [path.name for path in (tmp_path / "output" / "cards").glob("*/*")] == ["LICENCE.txt"]
    assert not (tmp_path / "output" / "cards" / "owner--gone").exists()
    assert capsys.readouterr().out == "no dataset card for owner/gone (ConnectionError)\n"
