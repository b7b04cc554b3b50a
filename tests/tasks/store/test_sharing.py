"""A store of a group is written for the group, another one as the user's umask says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.store import sharing


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.parametrize(("mode", "rights"), [(0o775, 0o660), (0o755, 0o600), (0o770, 0o660)])
def test_files_follow_the_folder_of_the_store(mode: int, rights: int, tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    root.chmod(mode)
    sharing.join(root)
    (root / "file").write_text("")
    assert stat.S_IMODE((root / "file").stat().st_mode) == rights


def test_a_store_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    sharing.join(tmp_path / "none")
    assert os.umask(0o077) == 0o077


def test_the_first_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b", "a", "prefect"):
        (tmp_path / name).mkdir()
    (tmp_path / "prefect" / "prefect.db").write_text("")
    assert sharing.unwritable(tmp_path) is None
    foreign = {tmp_path / "b", tmp_path / "prefect" / "prefect.db"}
    monkeypatch.setattr(os, "access", lambda path, how: path not in foreign)
    assert sharing.unwritable(tmp_path) == tmp_path / "b"
    foreign.discard(tmp_path / "b")
    assert sharing.unwritable(tmp_path) == tmp_path / "prefect" / "prefect.db"


def test_an_owner_without_a_name_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(sharing.pwd, "getpwuid", unknown)
    assert sharing.owner(tmp_path) == str(os.getuid())
