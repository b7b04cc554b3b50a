"""The control side of the fork server, against a process that only answers as the server does."""

from __future__ import annotations

import json
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.launch import forkserver
from tasks.launch.forkserver import Warm, environment

SERVER = """
import json, os, sys
if os.environ["OMP_NUM_THREADS"] != "1" or not os.path.isfile("jobs/runtime/forkserver.py"):
    sys.exit("not where the code is, or more threads than one while it imports")
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["stage"] == "dies":
        os._exit(3)
    print(json.dumps({"id": asked["id"], "pid": 70 + int(asked["id"])}), flush=True)
    if asked["stage"] != "stays":
        print(json.dumps({"id": asked["id"], "code": asked["code"]}), flush=True)
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Warm]:
    """Starts a server whose program is given."""

    def start(program: str) -> Warm:
        monkeypatch.setattr(forkserver, "guarded", lambda command: [sys.executable, "-S", "-c", program])
        return Warm()

    return start


def test_jobs_have_their_process_and_code(started: Callable[[str], Warm]) -> None:
    warm = started(SERVER)
    assert warm.ready()
    good, bad = warm.submit({"stage": "a", "code": 0}), warm.submit({"stage": "b", "code": 7})
    assert good.ended.wait(10) and bad.ended.wait(10)
    assert [(job.pid, job.code, job.started.is_set()) for job in (good, bad)] == [(70, 0, True), (71, 7, True)]
    warm.close()
    assert warm._process.returncode == 0, "it ends when nobody speaks to it"


def test_a_server_that_dies_takes_its_jobs_with_it(started: Callable[[str], Warm]) -> None:
    warm = started(SERVER)
    done, stays = warm.submit({"stage": "a", "code": 0}), warm.submit({"stage": "stays"})
    assert done.ended.wait(10) and stays.started.wait(10) and not stays.ended.is_set()
    warm.submit({"stage": "dies"})
    assert stays.ended.wait(10)
    assert (done.code, stays.code) == (0, -signal.SIGKILL)
    assert not warm.ready(), "jobs are started as new processes from now on"
    warm._process.wait(10)
    late = warm.submit({"stage": "a", "code": 0})
    assert late.ended.is_set() and late.code == 1
    warm.close()


def test_a_server_is_killed_while_it_imports(started: Callable[[str], Warm]) -> None:
    warm = started("import time; time.sleep(60)")
    warm.close()
    assert warm._process.returncode == -signal.SIGKILL


def test_a_server_that_does_not_end_is_killed(started: Callable[[str], Warm], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "GRACE_SECONDS", 0.05)
    warm = started(f"import time; print({json.dumps({'ready': True})!r}, flush=True); time.sleep(60)")
    assert warm.ready()
    warm.close()
    assert warm._process.returncode == -signal.SIGKILL


def test_the_server_started_early_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(forkserver, "Warm", lambda: (made.append(object()), made[-1])[1])
    monkeypatch.setattr(forkserver, "may_warm", lambda: True)
    monkeypatch.setattr(forkserver, "_early", None)
    forkserver.start_early()
    forkserver.start_early()
    assert len(made) == 1
    assert [forkserver.take(), forkserver.take()] == made and len(made) == 2
    monkeypatch.setattr(forkserver, "may_warm", lambda: False)
    forkserver.start_early()
    assert len(made) == 2, "a GPU is not shared with a fork"


@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_forked_beside_a_gpu(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: there and str(path) == "/dev/nvidiactl")
    assert forkserver.may_warm() is not there


def test_threads_sleep_while_they_wait() -> None:
    found = environment(3)
    assert (found["OMP_NUM_THREADS"], found["OMP_WAIT_POLICY"], found["GOMP_SPINCOUNT"]) == ("3", "PASSIVE", "0")


@pytest.mark.parametrize(
    ("glibc", "kept"), [("2.34", False), ("2.35", True), ("2.4", False), ("2.36.1", True), ("3.0", True), ("", False)]
)
def test_memory_is_kept_where_glibc_can(glibc: str, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks up to 1 GB, and 4 GB of free memory at the end of the heap."""
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", glibc))
    found = runpy.run_path(forkserver.__file__)["ALLOCATOR"]
    gigabyte = 1024**3
    assert found == (
        {"MALLOC_MMAP_THRESHOLD_": str(gigabyte), "MALLOC_TRIM_THRESHOLD_": str(4 * gigabyte)} if kept else {}
    )
