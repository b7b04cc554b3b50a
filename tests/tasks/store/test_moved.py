"""Paths in files of a store that was copied, renamed or mounted elsewhere."""

from __future__ import annotations

from pathlib import Path

from tasks.store.moved import all_here, here

KEY, OTHER = "0" * 31 + "1", "0" * 31 + "2"


def sealed(store: Path, stage: str) -> Path:
    folder = store / stage / KEY
    folder.mkdir(parents=True)
    return folder


def test_a_path_of_a_moved_store_is_found_here(tmp_path: Path) -> None:
    folder, key = sealed(tmp_path, "prune"), KEY
    assert here(Path(f"/old/store/prune/{key}"), tmp_path) == folder
    assert here(Path(f"/old/prune/{key}/model/config.json"), tmp_path) == folder / "model" / "config.json"
    assert here(Path(f"prune/{key}"), tmp_path) == folder
    for other in (f"/old/distill/{key}", f"/old/prune/{OTHER}", "/old/prune/notes"):
        assert here(Path(other), tmp_path) == Path(other)


def test_only_fields_named_path_follow_the_store(tmp_path: Path) -> None:
    folder, old = sealed(tmp_path, "prune"), f"/old/prune/{KEY}"
    content = {"rows": [{"path": old, "name": old}, {"path": 3}], "path": [{"path": old}]}
    assert all_here(content, tmp_path) == {
        "rows": [{"path": str(folder), "name": old}, {"path": 3}],
        "path": [{"path": str(folder)}],
    }
