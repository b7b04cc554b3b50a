"""Files that are written at once, lines that are whole, and digests."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from conf.files import drop_torn_line, remove_partials, replacing, sha256, sync_folder, whole_lines, write_whole


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
