"""File helpers shared by flows, tasks and jobs: atomic writes, complete lines of growing files, digests. Standard
library only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"
"""Suffix of a hidden file while it is written; a leftover one comes from a killed process."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; it is renamed to `path` at the end, or removed if the body raises."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{PARTIAL}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str, *, sync: bool = False) -> None:
    """Write a file atomically; with `sync` it is on disk afterwards."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        if sync:
            stream.flush()
            os.fsync(stream.fileno())


def remove_partials(folder: Path) -> None:
    """Remove leftovers of killed writers under a folder without active writers."""
    for path in folder.rglob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def whole_lines(path: Path) -> list[bytes]:
    """Complete lines of an append-only file, with line ends; [] if there is no file. A last line without an end was cut
    short by a kill or a full disk and is left out."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith(b"\n")]


class NewLines:
    """What was added to a file of lines since it was read last, while another process writes it.

    A resumed job cuts off what it repeats, and may have written more than that before the next look: neither size nor
    inode tells, so the line that was read last must still stand where it stood."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset, self._last = 0, b""

    def read(self) -> list[bytes]:
        """Complete new lines without their ends; all if others were replaced or cut off, none if there is no file."""
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            return []
        with stream:
            stream.seek(self._offset - len(self._last))
            if stream.read(len(self._last)) != self._last:
                self._offset, self._last = 0, b""
                stream.seek(0)
            content = stream.read()
        content = content[: content.rfind(b"\n") + 1]
        if content:
            self._offset += len(content)
            self._last = content[content[:-1].rfind(b"\n") + 1 :]
        return content.splitlines()


def drop_torn_line(path: Path) -> None:
    """Truncate an incomplete last line of an append-only file."""
    if path.is_file() and (size := sum(len(line) for line in whole_lines(path))) < path.stat().st_size:
        os.truncate(path, size)


def sha256(path: Path, *, sync: bool = False) -> str:
    """Hexadecimal digest of a file; with `sync` its content is on disk afterwards."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if sync:
            os.fsync(stream.fileno())
    return digest


def sync_folder(folder: Path) -> None:
    """Flush the folder's entries (created, renamed, removed) to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
