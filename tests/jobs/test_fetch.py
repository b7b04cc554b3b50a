"""What is fetched from a hub, and how its refusals are told; the hub is stood in for."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from conf.spec import Spec
from jobs import fetch
from tests.fixtures.model import write_model

REPOSITORY = ("config.json", "model.safetensors", "README.md", "chat_template.jinja", "pytorch_model.bin", "code.py")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the hub was asked for, and what it says."""
    asked: dict[str, Any] = {"error": None, "settings": {}}

    def download(model: str, *, revision: str, local_dir: str, allow_patterns: list[str]) -> None:
        asked.update(model=model, revision=revision, patterns=allow_patterns)
        if asked["error"]:
            raise asked["error"]
        write_model(Path(local_dir), **asked["settings"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(fetch.hub, "fail_fast", lambda: None)
    return asked


def fetched(output: Path) -> None:
    config = {"model": "owner/name", "branch": "v2"}
    fetch.run(Spec(stage="fetch", key="k", config=config, output=str(output)))


def test_code_and_pickles_are_not_fetched(hub: dict[str, Any], tmp_path: Path) -> None:
    fetched(tmp_path / "out")
    wanted = [name for name in REPOSITORY if any(fnmatch.fnmatch(name, pattern) for pattern in hub["patterns"])]
    assert (hub["model"], hub["revision"], wanted) == ("owner/name", "v2", list(REPOSITORY[:4]))


def test_a_hub_that_refuses_is_told(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["error"] = OSError("disk")
    with pytest.raises(ValueError, match=r"owner/name could not be fetched from the Hugging Face hub \(OSError\)"):
        fetched(tmp_path / "out")


def test_a_model_that_cannot_be_imported_is_named(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["settings"] = {"auto_map": {"AutoModel": "code.Model"}}
    with pytest.raises(ValueError, match="owner/name") as refused:
        fetched(tmp_path / "out")
    assert "auto_map" in str(refused.value) and str(tmp_path) not in str(refused.value)
