"""Control side of the fork server (`jobs.runtime.forkserver`), which imports heavy libraries once and forks a child per
job."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from conf.environment import NO_TELEMETRY, UTF8
from conf.secrets import without
from tasks.launch.guard import guarded

GLIBC = tuple(int(part) for part in (platform.libc_ver()[1] or "0").split(".")[:2])
KEEPS_MEMORY = (2, 35)
"""First glibc version that respects large thresholds; older ones would keep no block above 128 KB."""
ALLOCATOR = (
    {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)} if GLIBC >= KEEPS_MEMORY else {}
)
"""A CPU job frees and allocates the same blocks every step. Returning them to the kernel each time costs a tenth of the
step."""

GRACE_SECONDS = 10.0
"""Time between SIGTERM and SIGKILL: a training job finishes its step and saves."""


def environment(threads: int) -> dict[str, str]:
    """Environment variables for a job with `threads` threads, which sleep while waiting (spinning on shared cores is 30
    times slower)."""
    quiet = {
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        UTF8: "1",
        "DO_NOT_TRACK": NO_TELEMETRY["DO_NOT_TRACK"],
        "PYTHONWARNINGS": "ignore",
    }
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", **quiet, **ALLOCATOR}


class ForkedJob:
    """One job of the fork server."""

    def __init__(self) -> None:
        self.started, self.ended = threading.Event(), threading.Event()
        self.pid, self.code = -1, 1


def start_early() -> None:
    """Start a fork server early, because its imports are the slowest part of a run's start. The calling thread must
    live as long as the flow that will `take` it."""
    global _early
    if may_warm() and _early is None:
        _early = Warm()


def take() -> Warm:
    """The fork server that was started early, or a new one."""
    global _early
    taken, _early = _early or Warm(), None
    return taken


def may_warm() -> bool:
    """Whether jobs may be forked, which is unsafe for processes that use a GPU."""
    return not Path("/dev/nvidiactl").exists()


class Warm:
    """The fork server process and the thread that reads its answers."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            guarded([sys.executable, "-m", "jobs.runtime.forkserver"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=without(os.environ) | environment(1),
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        self._jobs: dict[str, ForkedJob] = {}
        self._lock = threading.Lock()
        self._is_ready, self._gone = threading.Event(), False
        threading.Thread(target=self._listen, name="warm", daemon=True).start()

    def ready(self) -> bool:
        """Wait until the imports are done; False if the process died, so that jobs must be started as new processes."""
        self._is_ready.wait()
        return not self._gone

    def submit(self, request: dict[str, Any]) -> ForkedJob:
        """Fork a job; `request` has stage, spec, log and environment."""
        job = ForkedJob()
        with self._lock:
            name = str(len(self._jobs))
            self._jobs[name] = job
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps({"id": name, **request}).encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                job.ended.set()
        return job

    def close(self) -> None:
        """End it and its children; kill it while it imports, when it has no children and does not listen."""
        if not self._is_ready.is_set():
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "ready" in answer:
                self._is_ready.set()
            elif "pid" in answer:
                self._jobs[answer["id"]].pid = answer["pid"]
                self._jobs[answer["id"]].started.set()
            else:
                self._jobs[answer["id"]].code = answer["code"]
                self._jobs[answer["id"]].ended.set()
        self._gone = True
        self._is_ready.set()
        for job in self._jobs.values():
            if not job.ended.is_set():
                job.code = -signal.SIGKILL
                job.ended.set()


_early: Warm | None = None
