"""Lock files of a store, which several users may share: whoever made a lock file, others can hold it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def opened(path: Path) -> IO[bytes]:
    """A lock file, open for flock; created if missing. One that another user made is opened for reading, which is
    enough on local file systems."""
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    except PermissionError:
        return path.open("rb")


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock exclusively, waiting for it; the kernel releases it when the process ends."""
    with opened(path) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
