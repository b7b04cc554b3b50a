"""A disk that fills up in the middle of a run: one sentence, nothing sealed that is not whole, and more space is all it takes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow_fixtures import RECIPE, imbik, left_behind, report_of

pytestmark = pytest.mark.drill


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for the databases and the data, not for a teacher and its checkpoints."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False)
    if os.geteuid() != 0 or mounted.returncode:
        pytest.skip(f"needs root and mount to make a small disk ({mounted.stderr.strip()})")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_full_disk_stops_the_run_and_more_space_lets_it_finish(small_disk: Path) -> None:
    store = small_disk / "store"
    arguments = [
        "run",
        str(RECIPE),
        "students.width=null",
        "students.depth.quantize=false",
        "distill=null",
        "evaluate.mmlu=null",
        "--name",
        "full",
    ]
    failed = imbik(*arguments, store=store)
    assert failed.returncode != 0
    assert "the disk is full" in failed.stderr
    assert "--store" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list(store.glob("teacher/*"))
    assert left_behind(store) == []
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    done = imbik(*arguments, store=store)
    assert done.returncode == 0, done.stderr
    assert [row["model"] for row in report_of(store, "full")["rows"]] == ["teacher", "depth-pruned"]
