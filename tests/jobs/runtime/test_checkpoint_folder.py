"""Checkpoints get their name when they are whole, are read only undamaged, and the newest are kept."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from jobs.runtime import checkpoint_folder as checkpoints


def published(folder: Path, *steps: int, keep: int = 9) -> list[str]:
    """Checkpoints of steps, each with a file; the names of those there."""
    for step in steps:
        checkpoints.publish(folder, step, keep, lambda partial: write(partial, f"{partial.name}"))
    return [path.name for path in checkpoints.existing(folder)]


def write(partial: Path, text: str) -> dict[str, Any]:
    (partial / "part").mkdir()
    (partial / "part" / "weights").write_text(text)
    return {"note": text}


def test_a_checkpoint_holds_notes_and_digests(tmp_path: Path) -> None:
    assert published(tmp_path, 7) == ["step-00000007"]
    folder, notes = checkpoints.newest_sound(tmp_path) or (tmp_path, {})
    assert (folder.name, notes["step"], notes["note"]) == ("step-00000007", 7, ".partial-7")
    assert notes["digests"] == {"part/weights": hashlib.sha256(b".partial-7").hexdigest()}
    assert sorted(path.name for path in folder.iterdir()) == ["part", "state.json"]


def test_all_of_a_checkpoint_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and folders, and its name after them."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink().name))
    published(tmp_path, 7)
    assert synced[:2] == ["weights", "state.json"] and synced[-1] == tmp_path.name
    assert sorted(synced[2:-1]) == [".partial-7", "part"]


@pytest.mark.parametrize(("keep", "left"), [(1, ["step-00000300"]), (2, ["step-00000020", "step-00000300"])])
def test_only_the_newest_stay(keep: int, left: list[str], tmp_path: Path) -> None:
    assert published(tmp_path, 3, 20, 300, keep=keep) == left
    assert sorted(path.name for path in tmp_path.iterdir()) == left


@pytest.mark.parametrize(("every", "left"), [(4, [8, 10]), (3, [9, 10]), (5, [10]), (20, [10]), (None, [10])])
def test_a_point_to_go_back_to_stays(every: int | None, left: list[int], tmp_path: Path) -> None:
    """Of the steps that `every` divides, the newest, beside the newest of all."""
    for step in range(1, 11):
        checkpoints.seal(checkpoints.begin(tmp_path, step), 1, {}, {}, every)
    assert [checkpoints.step_of(path) for path in checkpoints.existing(tmp_path)] == left


def test_what_comes_after_a_step_is_forgotten(tmp_path: Path) -> None:
    published(tmp_path, 3, 4, 5)
    checkpoints.forget(tmp_path, 4)
    assert published(tmp_path) == ["step-00000003", "step-00000004"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    for name in (".partial-3", ".old-step-00000001"):
        (tmp_path / name).mkdir()
    assert checkpoints.begin(tmp_path, 4).name == ".partial-4"
    assert [path.name for path in tmp_path.iterdir()] == [".partial-4"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fail(partial: Path) -> dict[str, Any]:
        (partial / "weights").write_text("half")
        raise OSError("the disk is full")

    def gone(partial: Path) -> dict[str, Any]:
        partial.rmdir()
        raise OSError("the disk is gone")

    folder = tmp_path / "a job's" / "checkpoints"
    for write, words in ((fail, "the disk is full"), (gone, "the disk is gone")):
        with pytest.raises(OSError, match=words):
            checkpoints.publish(folder, 1, 2, write)
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("weights", "part/weights has changed since it was written"),
        ("notes", "state.json has changed since it was written"),
        ("name", "state.json has changed since it was written"),
        ("no state", "No such file"),
        ("no digests", "KeyError: 'sha256'"),
    ],
)
def test_a_damaged_one_is_set_aside(fault: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published(tmp_path, 1, 2)
    newest = tmp_path / "step-00000002"
    state = json.loads((newest / "state.json").read_text())
    if fault == "weights":
        (newest / "part" / "weights").write_text("other")
    elif fault == "notes":
        (newest / "state.json").write_text(json.dumps(state | {"note": "other"}))
    elif fault == "name":
        newest = newest.rename(tmp_path / "step-00000009")
    elif fault == "no state":
        (newest / "state.json").unlink()
    else:
        (newest / "state.json").write_text("{}")
    folder, notes = checkpoints.newest_sound(tmp_path) or (tmp_path, {})
    assert (folder.name, notes["step"]) == ("step-00000001", 1)
    assert words in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"damaged-{newest.name}", "step-00000001"]


def test_where_all_are_damaged_nothing_starts_over(tmp_path: Path) -> None:
    published(tmp_path, 1, 2)
    for step in (1, 2):
        (tmp_path / f"step-0000000{step}" / "part" / "weights").write_text("other")
    with pytest.raises(ValueError, match=r"every checkpoint in .* is damaged \(step-00000002: .*; step-00000001: "):
        checkpoints.newest_sound(tmp_path)
    assert len(checkpoints.existing(tmp_path)) == 2, "for whoever looks at them"


def test_no_checkpoints_are_none(tmp_path: Path) -> None:
    assert checkpoints.newest_sound(tmp_path) is None


def test_a_kept_one_outlives_the_others(tmp_path: Path) -> None:
    folder, state = tmp_path / "checkpoints", tmp_path / "state"
    published(folder, 1, 2)
    checkpoints.keep(folder, 2, state)
    (state / "old").mkdir()
    checkpoints.keep(folder, 1, state)
    assert [path.name for path in state.iterdir()] == ["step-00000001"]
    kept, notes = checkpoints.newest_sound(state) or (tmp_path, {})
    assert (kept.name, notes["step"]) == ("step-00000001", 1)
