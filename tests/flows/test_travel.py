"""A store that was copied and moved works from where it is, without reading or writing its original place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks.store import lineage
from tasks.store.runs import model_of
from tests.fixtures.flow import MODELS, RECIPE, finished, imbik  # noqa: F401 - finished is a fixture

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def moved(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a store, elsewhere."""
    copy = tmp_path_factory.mktemp("travel") / "moved to #2"
    shutil.copytree(finished, copy, symlinks=True)
    return copy


def inside(path: Path) -> dict[str, tuple[int, int]]:
    return {
        str(file.relative_to(path)): (file.stat().st_mtime_ns, file.stat().st_size)
        for file in path.rglob("*")
        if file.is_file() and not file.is_symlink()
    }


def test_models_of_a_moved_store_are_its_own(moved: Path, finished: Path) -> None:
    for model in MODELS:
        path = Path(model_of(moved, f"tiny/{model}").row.path)
        assert path.is_relative_to(moved) and path.is_dir()
        for ancestor in lineage.of(path.parent):
            assert ancestor.folder.is_relative_to(moved)
    served = imbik("serve-command", "tiny/depth-fp8", store=moved)
    assert served.returncode == 0, served.stderr
    assert str(moved) in served.stdout and str(finished) not in served.stdout


@pytest.mark.drill
def test_a_run_in_a_moved_store_leaves_the_original_alone(moved: Path, finished: Path) -> None:
    before = inside(finished)
    again = imbik("run", str(RECIPE), "--name", "again", store=moved)
    assert again.returncode == 0, again.stderr
    assert "MLflow" not in again.stdout, again.stdout
    assert inside(finished) == before
    artifacts = {path.name for path in (moved / "mlflow-artifacts").rglob("*") if path.is_file()}
    assert "report.html" in artifacts
    promoted = imbik("promote", "again/depth-fp8", store=moved)
    assert promoted.returncode == 0, promoted.stderr
    served = imbik("serve-command", "again@champion", store=moved)
    assert str(moved) in served.stdout and str(finished) not in served.stdout
    assert inside(finished) == before
