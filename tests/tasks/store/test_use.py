"""Locks on a store and on its runs: several flows share them, removals want them alone."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from tasks.store import use
from tasks.store.store import StoreError


def test_flows_share_a_store_and_a_run(tmp_path: Path) -> None:
    root = tmp_path / "not" / "there yet"
    with use.running(root, "b"), use.running(root, "a"), use.running(root, "a"):
        assert use.in_progress(root) == ["a", "b"]
    assert use.in_progress(root) == []
    assert {path.name for path in (root / ".work").iterdir()} == {"store.using", "run-a.using", "run-b.using"}


def test_nothing_is_removed_under_a_flow(tmp_path: Path) -> None:
    with (
        use.running(tmp_path, "mine"),
        pytest.raises(StoreError, match=r"runs are using the store .* \(mine\); wait until they have ended"),
        use.unused(tmp_path),
    ):
        pytest.fail("a flow runs")
    with use.unused(tmp_path):
        assert use.in_progress(tmp_path) == []


def test_a_flow_that_has_no_name_yet_is_one_that_starts(tmp_path: Path) -> None:
    (tmp_path / ".work").mkdir()
    with (tmp_path / ".work" / "store.using").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        with pytest.raises(StoreError, match=r"\(one that is starting\)"), use.unused(tmp_path):
            pytest.fail("a flow starts")


def test_only_the_run_itself_keeps_its_folder(tmp_path: Path) -> None:
    with use.running(tmp_path, "mine"):
        with use.not_running(tmp_path, "other"):
            pass
        with pytest.raises(StoreError, match="run mine is running"), use.not_running(tmp_path, "mine"):
            pytest.fail("it runs")
