"""Lock files that several users share."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tasks.store import locks


def is_free(path: Path) -> bool:
    """Whether a second opening of the file can be locked."""
    with path.open("rb") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_new_lock_can_be_opened_by_everyone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        locks.opened(tmp_path / "lock").close()
    finally:
        os.umask(before)
    assert (tmp_path / "lock").stat().st_mode & 0o7777 == 0o666, "read and write for all, run by none"


def test_opening_empties_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"kept")
    with locks.opened(tmp_path / "lock") as stream:
        assert stream.read() == b"kept"
        stream.write(b"!")
    assert (tmp_path / "lock").read_bytes() == b"kept!"


def test_a_lock_of_another_user_is_opened_for_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lock").write_bytes(b"theirs")

    def refuse(*arguments: object) -> int:
        raise PermissionError

    monkeypatch.setattr(locks.os, "open", refuse)
    with locks.opened(tmp_path / "lock") as stream:
        assert (stream.readable(), stream.writable()) == (True, False)
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert not is_free(tmp_path / "lock")


def test_a_lock_is_held_inside_and_free_after(tmp_path: Path) -> None:
    with locks.held(tmp_path / "lock"):
        assert not is_free(tmp_path / "lock")
    assert is_free(tmp_path / "lock")


def test_an_error_frees_a_lock(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locks.held(tmp_path / "lock"):
        raise KeyError
    assert is_free(tmp_path / "lock")
