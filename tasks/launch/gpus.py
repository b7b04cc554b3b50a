"""Allocates GPUs of this machine to jobs: one job per GPU, across all runs of a user.

Uses file locks, which the kernel releases when the holder dies. A Prefect limit could only count, not select a free
GPU.
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
    """GPUs that this process may use: CUDA_VISIBLE_DEVICES if set, else all of the machine."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    names = [
        path.name.removeprefix("nvidia") for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)
    ]
    return sorted(names, key=int)


@contextlib.contextmanager
def hold(count: int, stopped: threading.Event) -> Iterator[list[str]]:
    """Wait for `count` GPUs and hold them until the block ends. Yields their names for CUDA_VISIBLE_DEVICES: none if
    the machine has none, all if it has fewer, none if `stopped` is set. First come, first served, whatever the
    count."""
    available = visible()
    if not available or not count:
        yield []
        return
    with contextlib.ExitStack() as held:
        taken: list[str] = []
        with contextlib.ExitStack() as turn:
            while not _locked(turn, "turn") and not stopped.wait(POLL_SECONDS):
                pass
            while len(taken) < min(count, len(available)) and not stopped.is_set():
                free = next((name for name in available if name not in taken and _locked(held, f"gpu-{name}")), None)
                if free is None:
                    stopped.wait(POLL_SECONDS)
                else:
                    taken.append(free)
        yield taken


def _locked(held: contextlib.ExitStack, name: str) -> bool:
    """Try to take a machine-wide lock until `held` is closed."""
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
