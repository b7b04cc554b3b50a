"""What `imbik clean` lists and counts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.commands import runs
from tasks.store import cleaning
from tasks.store.cleaning import Freed


@pytest.mark.parametrize(("number", "told"), [(0, "0 folders"), (1, "1 folder"), (2, "2 folders")])
def test_one_folder_is_no_plural(number: int, told: str) -> None:
    assert runs._count(number, "folder") == told


@pytest.mark.parametrize(("number", "rest"), [(20, ""), (21, "1 more"), (25, "5 more")])
def test_twenty_folders_are_listed_and_the_rest_counted(number: int, rest: str) -> None:
    why: Any = "not finished"
    freed = [
        Freed(path=Path(f"/store/distill/key{each}"), stage="distill", why=why, bytes=1000) for each in range(number)
    ]
    stream = io.StringIO()
    Console(file=stream, width=120).print(runs._freed(freed))
    text = stream.getvalue()
    assert "key19" in text and "key20" not in text
    assert (rest in text) if rest else "more" not in text
    assert not rest or f"{(number - 20):.1f} kB" in text


@pytest.mark.parametrize("named", [True, False])
def test_a_store_that_is_named_must_exist(named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMBIK_STORE", raising=False)
    monkeypatch.setattr(runs.out, "_file", stream := io.StringIO())
    if named:
        with pytest.raises(ValueError, match=f"^--store is {tmp_path}/none, which does not exist; name the folder"):
            runs.runs(Path("none"))
    else:
        runs.runs()
        assert stream.getvalue().split() == ["no", "runs", "in", f"{tmp_path}/.imbik"]
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file, which is not a folder; name the folder of a store, or a new one"):
        runs.clean(tmp_path / "file")


def test_unfinished_stages_are_kept_and_counted_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with a damaged artifact that was moved aside, and two stages that did not finish."""
    for name in (f"{cleaning.DAMAGED}distill-1", "distill-1", "prune-2", "no stage-3"):
        folder = tmp_path / ".work" / name
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 1000)

    def said(**options: bool) -> str:
        monkeypatch.setattr(runs.out, "_file", stream := io.StringIO())
        runs.clean(tmp_path, **options)
        return " ".join(stream.getvalue().split())

    plain = said()
    assert "would free 1 folder, 1.0 kB; imbik clean --yes frees it" in plain
    assert plain.endswith("kept 2 unfinished stages, 2.0 kB; --unfinished frees them too")
    both = said(unfinished=True)
    assert "would free 3 folders, 3.0 kB; imbik clean --unfinished --yes frees it" in both and "kept" not in both
    assert "freed 1 folder, 1.0 kB kept 2 unfinished stages" in said(yes=True)
    assert said().startswith(f"nothing to free in {tmp_path} kept 2 unfinished stages")
    assert "freed 2 folders, 2.0 kB" in said(yes=True, unfinished=True)
    assert [path.name for path in (tmp_path / ".work").iterdir() if path.is_dir()] == ["no stage-3"]
