"""A model goes to the hub in one commit of its files, or says why it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from tasks.handover.upload import UploadFile, push


class Hub:
    """In the place of the hub's client: keeps what it is asked; `fails` is raised at a commit."""

    told: list[Any]
    fails: Exception | None = None

    def create_repo(self, repository: str, **settings: Any) -> str:
        self.told.append((repository, settings))
        return f"https://hub/{repository}"

    def create_commit(self, repository: str, operations: list[Any], commit_message: str) -> None:
        files = [(one.path_in_repo, Path(one.path_or_fileobj).name) for one in operations]
        self.told.append((repository, files, commit_message))
        if self.fails:
            raise self.fails


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(Hub, "told", found, raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return found


@pytest.fixture
def files(tmp_path: Path) -> list[UploadFile]:
    (tmp_path / "sealed.json").write_text("{}")
    return [UploadFile(name="config.json", path=tmp_path / "sealed.json", bytes=2, sha256="0")]


@pytest.mark.parametrize("private", [True, False])
def test_a_model_is_one_commit(private: bool, told: list[Any], files: list[UploadFile]) -> None:
    """Also to a repository that is there; a private one stays private."""
    assert push(files, "me/small", private=private, message="from a run") == "https://hub/me/small"
    assert told == [
        ("me/small", {"private": private, "exist_ok": True}),
        ("me/small", [("config.json", "sealed.json")], "from a run"),
    ]


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("no\nnetwork"), OSError("no  network")])
def test_a_rejected_upload_is_one_sentence(
    error: Exception, told: list[Any], files: list[UploadFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "fails", error)
    with pytest.raises(ValueError, match=r"^the hub rejected the upload to me/small \(no network\); check its name"):
        push(files, "me/small", private=True, message="")
