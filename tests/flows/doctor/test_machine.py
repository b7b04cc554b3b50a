"""What the doctor says of a machine, at and beyond its bounds."""

from __future__ import annotations

import importlib.metadata
import io
import subprocess
import urllib.error
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.doctor import machine
from flows.doctor.machine import Check

GIB = 1024**3


def patched(monkeypatch: pytest.MonkeyPatch, *, memory: int = 99 * GIB, disk: int = 99 * GIB, cores: int = 4) -> None:
    """A machine of this size."""
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: SimpleNamespace(available=memory))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=disk))
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(cores)))


def named(store: Path) -> dict[str, Check]:
    return {check.name: check for check in machine._machine(store)}


@pytest.mark.parametrize(
    ("version", "ok"),
    [((3, 10, 14), False), ((3, 11, 0), True), ((3, 12, 1), True), ((3, 13, 2), True), ((3, 14, 0), False)],
)
def test_python_is_one_with_a_lock(
    version: tuple[int, ...], ok: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.sys, "version_info", (*version, "final", 0))
    check = named(tmp_path)["Python"]
    assert (check.found, check.ok, check.required) == (".".join(map(str, version)), ok, True)
    assert (check.remedy == "") == ok
    assert ok or "Python 3.11, 3.12, 3.13" in check.remedy


@pytest.mark.parametrize(("cores", "ok"), [(1, False), (2, True)])
def test_one_core_is_slow(cores: int, ok: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patched(monkeypatch, cores=cores)
    check = named(tmp_path)["cores"]
    assert (check.found, check.ok, check.required) == (str(cores), ok, False)


@pytest.mark.parametrize(("spare", "ok"), [(-1, False), (0, True)])
def test_memory_and_disk_of_the_demo(spare: int, ok: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patched(monkeypatch, memory=6 * GIB + spare, disk=5 * GIB + spare)
    checks = named(tmp_path / "not" / "made")
    memory, disk = checks["free memory"], checks["free disk"]
    assert (memory.ok, disk.ok, memory.required, disk.required) == (ok, ok, True, True)
    assert (memory.found, disk.found) == ("6.0 GiB", f"5.0 GiB at {tmp_path}"), "the nearest folder that exists"
    assert not list(tmp_path.iterdir()), "nothing is left"


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(tmp_path)["store"] == Check(name="store", found=f"{tmp_path} is writable", ok=True)

    def refuse(**settings: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    check = named(tmp_path)["store"]
    assert (check.ok, check.required, check.found) == (False, True, f"{tmp_path}: Permission denied")


def locked(monkeypatch: pytest.MonkeyPatch, path: Path, text: str, **installed: str) -> Check:
    """The check of a lock file against packages."""
    path.write_text(text)
    monkeypatch.setattr(machine, "LOCK", path)

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError
        return installed[name]

    monkeypatch.setattr(machine.importlib.metadata, "version", version)
    return machine._lock()


def test_packages_are_compared_without_their_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# a==1\na==1\n  b==2.0\nnot a pin\n"
    same = locked(monkeypatch, tmp_path / "lock", text, a="1", b="2.0+cpu")
    assert (same.ok, same.found) == (True, "2 packages as locked")
    other = locked(monkeypatch, tmp_path / "lock", text, b="2.1")
    assert (other.ok, other.found, other.required) == (False, "a missing (lock: 1), b 2.1 (lock: 2.0)", True)


def test_five_differing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = locked(monkeypatch, tmp_path / "lock", "".join(f"p{number}==1\n" for number in range(6)))
    assert check.found.count("missing") == 5 and "p4" in check.found and "p5" not in check.found


def test_without_a_lock_nothing_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LOCK", tmp_path / "none")
    check = machine._lock()
    assert (check.ok, check.required) == (False, False)


CARD = "GPU 0: NVIDIA H100 (UUID: GPU-1)\nGPU 1: NVIDIA H100 (UUID: GPU-2)\n"


@pytest.mark.parametrize(
    ("torch", "code", "listed", "found", "ok"),
    [
        ("2.9.0", 0, CARD, "GPU 0: NVIDIA H100; GPU 1: NVIDIA H100", True),
        ("2.9.0+cpu", 0, CARD, "GPU 0: NVIDIA H100; GPU 1: NVIDIA H100", False),
        ("2.9.0", 9, CARD, "none: jobs run on the CPU", False),
        ("2.9.0", 0, "\n", "none: jobs run on the CPU", False),
        ("2.9.0", None, "", "none: jobs run on the CPU", False),
    ],
)
def test_gpus_need_their_build_of_torch(
    torch: str, code: int | None, listed: str, found: str, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.importlib.metadata, "version", lambda name: torch)
    monkeypatch.setattr(machine.shutil, "which", lambda name: None if code is None else "/bin/nvidia-smi")
    answer = subprocess.CompletedProcess([], code or 0, stdout=listed)
    monkeypatch.setattr(machine.subprocess, "run", lambda *command, **settings: answer)
    build, gpu = machine._gpu()
    assert (build.found, build.ok) == (torch, True)
    assert (gpu.found, gpu.ok, gpu.required, bool(gpu.remedy)) == (found, ok, False, not ok)


def test_without_torch_gpus_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(machine.importlib.metadata, "version", version)
    (only,) = machine._gpu()
    assert (only.name, only.ok, only.required) == ("torch", False, True)


@pytest.mark.parametrize(("code", "answers"), [(401, True), (499, True), (500, False), (503, False)])
def test_a_server_that_refuses_answers(code: int, answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(url: str, timeout: float) -> Any:
        raise urllib.error.HTTPError(url, code, "", None, io.BytesIO())  # type: ignore[arg-type]

    monkeypatch.setattr(machine.urllib.request, "urlopen", answer)
    assert machine._answers("http://x") == answers


def test_no_server_does_not_answer() -> None:
    assert not machine._answers("http://127.0.0.1:9/") and not machine._answers("no address")


def test_services_of_the_environment_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(machine, "_answers", lambda url: bool(asked.append(url)))
    monkeypatch.setenv("PREFECT_API_URL", "http://p/api/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///a.db")
    prefect, mlflow = machine._services(tmp_path)
    assert asked == ["http://p/api/health"], "a database is not asked"
    assert (prefect.ok, prefect.found) == (False, "http://p/api/ does not answer")
    assert "unset PREFECT_API_URL: a run starts its own" in prefect.remedy
    assert (mlflow.ok, mlflow.found) == (True, "sqlite:///a.db")
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert all(check.ok and check.found.startswith("not configured: ") for check in machine._services(tmp_path))


def test_the_hub_is_a_limitation_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert (machine._hub().ok, machine._hub().required) == (False, False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    for answers, words in ((True, "http://mirror answers"), (False, "http://mirror does not answer")):
        monkeypatch.setattr(machine, "_answers", lambda url, answers=answers: answers)
        check = machine._hub()
        assert (check.found, check.ok, check.required) == (words, answers, False)
