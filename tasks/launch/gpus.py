"""Which GPUs of this machine a job may have: one GPU belongs to one job at a time, over all runs of a user.

The kernel frees a GPU when its holder dies. A Prefect limit could only count: it cannot say which GPU is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

POLL_SECONDS = 0.2


def visible(devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that this process may use: CUDA_VISIBLE_DEVICES where it is set, else all of the machine."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    found = [
        path.name.removeprefix("nvidia") for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)
    ]
    return sorted(found, key=int)


@contextlib.contextmanager
def hold(count: int, stopped: threading.Event) -> Iterator[list[str]]:
    """Wait for `count` GPUs and hold them until the block ends: their names, for the job's CUDA_VISIBLE_DEVICES; none
    where the machine has none, all where it has fewer, and none when `stopped` is set. Who came first is served first,
    however many it wants."""
    here = visible()
    if not here or not count:
        yield []
        return
    with contextlib.ExitStack() as held:
        mine: list[str] = []
        with contextlib.ExitStack() as turn:
            while not _locked(turn, "turn") and not stopped.wait(POLL_SECONDS):
                pass
            while len(mine) < min(count, len(here)) and not stopped.is_set():
                free = next((name for name in here if name not in mine and _locked(held, f"gpu-{name}")), None)
                if free is None:
                    stopped.wait(POLL_SECONDS)
                else:
                    mine.append(free)
        yield mine


def _locked(held: contextlib.ExitStack, name: str) -> bool:
    """Take a lock of the machine, if it is free, until `held` is closed."""
    folder = Path(tempfile.gettempdir()) / f"imbik-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    stream = (folder / re.sub(r"[^A-Za-z0-9-]", "_", name)).open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return False
    held.enter_context(stream)
    return True
