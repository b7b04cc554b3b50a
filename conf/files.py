"""The file protocol that flows, tasks and jobs share: whole files or none, lines of files that grow, digests. Standard
library only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"
"""Ends the name of a hidden file that is being written; one that stays was left by a killed process."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the yielded name beside `path`: it becomes `path` at the end, or is removed where the body raises."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{PARTIAL}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str, *, sync: bool = False) -> None:
    """Write a file that readers see whole or as it was before; with `sync` it is on the disk afterwards."""
    with replacing(path) as partial, partial.open("w") as stream:
        stream.write(text)
        if sync:
            stream.flush()
            os.fsync(stream.fileno())


def remove_partials(folder: Path) -> None:
    """Remove what killed writers left anywhere under a folder that nobody writes to now."""
    for path in folder.rglob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def whole_lines(path: Path) -> list[bytes]:
    """Lines of a file that is appended to, with their ends; [] where there is no file. A last line without an end was
    cut short by a kill or a full disk and is left out."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith(b"\n")]


def drop_torn_line(path: Path) -> None:
    """Cut a last line without an end off a file that is appended to."""
    if path.is_file() and (size := sum(len(line) for line in whole_lines(path))) < path.stat().st_size:
        os.truncate(path, size)


def sha256(path: Path, *, sync: bool = False) -> str:
    """The file's digest, hexadecimal; with `sync` its content is on the disk afterwards."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if sync:
            os.fsync(stream.fileno())
    return digest


def sync_folder(folder: Path) -> None:
    """Names in the folder (made, renamed, removed) are on the disk afterwards."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
