"""Files that are written at once, lines that are whole, and digests."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from conf.files import (
    NewLines,
    drop_torn_line,
    remove_partials,
    replacing,
    sha256,
    sync_folder,
    whole_lines,
    write_whole,
)


def test_a_file_is_there_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with replacing(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="full"), replacing(path) as partial:
        partial.write_text("half")
        raise OSError("full")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_only_leftovers_of_writers_are_removed(tmp_path: Path) -> None:
    for name in (".a.1-2.partial", "b.partial", ".hidden", "c"):
        (tmp_path / name).write_text("x")
    remove_partials(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"b.partial", ".hidden", "c"}


@pytest.mark.parametrize(
    ("content", "lines"), [(b"", []), (b"a\nb\n", [b"a\n", b"b\n"]), (b"a\nb", [b"a\n"]), (b"a", [])]
)
def test_a_torn_line_does_not_count_and_is_dropped(tmp_path: Path, content: bytes, lines: list[bytes]) -> None:
    path = tmp_path / "lines"
    assert whole_lines(path) == []
    drop_torn_line(path)
    path.write_bytes(content)
    assert whole_lines(path) == lines
    drop_torn_line(path)
    assert path.read_bytes() == b"".join(lines)


def test_a_digest_is_that_of_hashlib(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\0" * 100_000)
    assert sha256(path) == sha256(path, sync=True) == hashlib.sha256(b"\0" * 100_000).hexdigest()


def test_files_are_synced_only_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_whole(tmp_path / "a", "x")
    sha256(tmp_path / "a")
    assert len(synced) == 0
    write_whole(tmp_path / "a", "x", sync=True)
    sha256(tmp_path / "a", sync=True)
    sync_folder(tmp_path)
    assert len(synced) == 3


def test_new_lines_come_once_and_when_they_are_complete(tmp_path: Path) -> None:
    lines = NewLines(tmp_path / "log")
    assert lines.read() == []
    (tmp_path / "log").write_bytes(b"one\ntwo\nthr")
    assert lines.read() == [b"one", b"two"]
    assert lines.read() == []
    with (tmp_path / "log").open("ab") as stream:
        stream.write(b"ee\n")
    assert lines.read() == [b"three"]


@pytest.mark.parametrize("again", [b"one\n", b"one\nTWO\n", b"one\n2\n3\n4\n", b"one\ntwenty-two\nthree\nfour\n", b""])
@pytest.mark.parametrize("replaced", [True, False])
def test_lines_that_were_cut_off_are_read_anew(again: bytes, replaced: bool, tmp_path: Path) -> None:
    """Never from the middle of one, however many were written since."""
    file, lines = tmp_path / "log", NewLines(tmp_path / "log")
    file.write_bytes(b"one\ntwo\n")
    lines.read()
    if replaced:
        file.unlink()
    file.write_bytes(again)
    assert lines.read() == again.splitlines()
    with file.open("ab") as stream:
        stream.write(b"more\n")
    assert lines.read() == [b"more"]


def test_what_a_replaced_file_kept_is_not_read_twice(tmp_path: Path) -> None:
    lines = NewLines(tmp_path / "log")
    (tmp_path / "log").write_bytes(b"one\ntwo\n")
    lines.read()
    write_whole(tmp_path / "log", "one\ntwo\nthree\n")
    assert lines.read() == [b"three"]
