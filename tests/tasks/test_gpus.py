"""Two jobs never have one GPU: over threads and processes, however many a job wants and however its holder ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks.launch import gpus
from tests.fixtures.flow import RECIPE, wait_for

HOLDER = "import sys, threading, time\nfrom tasks.launch import gpus\nwith gpus.hold(1, threading.Event()) as mine:\n"
HOLDER += "    print(mine[0], flush=True)\n    time.sleep(60)"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("PYTHONPATH", str(RECIPE.parents[2]))


def test_the_machines_gpus_are_those_that_are_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.visible(tmp_path) == ["2", "10"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 1")
    assert gpus.visible(tmp_path) == ["3", "1"]
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert gpus.visible(tmp_path) == []
        with gpus.hold(2, threading.Event()) as mine:
            assert mine == []


def test_no_gpu_is_held_twice_and_the_wide_job_is_not_starved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    lock, busy, twice, order = threading.Lock(), set[str](), list[str](), list[int]()

    def job(count: int) -> None:
        with gpus.hold(count, threading.Event()) as mine:
            with lock:
                twice.extend(busy & set(mine))
                busy.update(mine)
                order.append(len(mine))
            time.sleep(0.05)
            with lock:
                busy.difference_update(mine)

    threads = [threading.Thread(target=job, args=(count,)) for count in (1, 2, 1, 8, 1, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert twice == []
    assert sorted(order) == [1, 1, 1, 1, 2, 2], "eight of two are two"


def test_killed_holder_frees_gpu_and_stopped_run_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5a")
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "GPU-5a"
        stopped = threading.Event()
        threading.Timer(0.3, stopped.set).start()
        with gpus.hold(1, stopped) as mine:
            assert mine == [], "another process has it"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    found: list[list[str]] = []
    threading.Thread(target=lambda: found.append(_held()), daemon=True).start()
    assert wait_for(lambda: found, 10, "the dead holder keeps its GPU") == [["GPU-5a"]]


def _held() -> list[str]:
    with gpus.hold(1, threading.Event()) as mine:
        return mine
