"""Who uses a store: running flows hold locks on it and on their run, so that nothing is removed under them.

The kernel releases a lock when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from tasks.store.store import StoreError

WORK = ".work"
WHOLE = "store.using"
OF_RUN = "run-{}.using"


@contextlib.contextmanager
def running(root: Path, run: str) -> Iterator[None]:
    """Held by a flow while it runs; several flows may, also under the same name. Waits while something is removed."""
    with _held(root, WHOLE, fcntl.LOCK_SH), _held(root, OF_RUN.format(run), fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def unused(root: Path) -> Iterator[None]:
    """Held while artifacts are removed. Raises StoreError while a flow uses the store; flows that start meanwhile
    wait."""
    try:
        with _held(root, WHOLE, fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield
    except BlockingIOError as error:
        names = ", ".join(in_progress(root)) or "one that is starting"
        raise StoreError(
            f"runs are using the store {root} ({names}); wait until they have ended, or stop them, then try again"
        ) from error


@contextlib.contextmanager
def not_running(root: Path, run: str) -> Iterator[None]:
    """Held while the folder of a run is removed or renamed. Raises StoreError while a flow of this name runs."""
    try:
        with _held(root, OF_RUN.format(run), fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield
    except BlockingIOError as error:
        raise StoreError(f"run {run} is running; wait until it has ended, or stop it, then try again") from error


def in_progress(root: Path) -> list[str]:
    """Names of the runs whose flows run now on this machine or its file system."""
    prefix, suffix = OF_RUN.split("{}")
    names = []
    for path in (root / WORK).glob(f"{prefix}*{suffix}"):
        with path.open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                names.append(path.name.removeprefix(prefix).removesuffix(suffix))
    return sorted(names)


@contextlib.contextmanager
def _held(root: Path, name: str, how: int) -> Iterator[None]:
    (root / WORK).mkdir(parents=True, exist_ok=True)
    with (root / WORK / name).open("a") as stream:
        fcntl.flock(stream, how)
        yield
