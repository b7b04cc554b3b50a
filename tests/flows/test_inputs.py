"""What comes from outside: a model is a folder here, or one of the hub's that is fetched."""

from __future__ import annotations

from pathlib import Path

from flows import inputs
from tasks.store.store import Store
from tests.fixtures.single_stages import Stages


def test_a_model_is_a_folder_here_or_fetched(tmp_path: Path) -> None:
    stages, store = Stages(), Store(tmp_path / "store")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    here = inputs.model_of(str(tmp_path / "mine"), store, stages)  # type: ignore[arg-type]
    assert here.path == str(tmp_path / "mine") and stages == {}
    fetched = inputs.model_of("owner/name@0123456", store, stages)  # type: ignore[arg-type]
    assert fetched.key == "fetch-teacher" and list(stages) == ["fetch-teacher"]
