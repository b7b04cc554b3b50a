"""Checks of this machine with fixes; writes nothing but a probe file in the store's folder."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.doctor import processor
from flows.doctor.lock import LOCK, LOCKS, pins

GIB = 1 << 30
MEMORY_NEEDED, DISK_NEEDED = 6 * GIB, 5 * GIB
"""Needs of the demo: two concurrent jobs, and its artifacts."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of one check; if it is not `required`, a failure is only a limitation."""

    name: str
    found: str
    ok: bool
    required: bool = True
    remedy: str = ""


def checks(store: Path) -> Iterator[Check]:
    """All checks for a run with this store, cheapest first."""
    yield from _machine(store)
    yield _lock()
    yield from _gpu()
    yield from _services(store)
    yield _hub()


def _machine(store: Path) -> Iterator[Check]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    known = ", ".join(".".join(map(str, each)) for each in LOCKS)
    remedy = f"install one of Python {known}, remove .venv and run make test"
    yield _check("Python", version, sys.version_info[:2] in LOCKS, remedy)
    cores = len(os.sched_getaffinity(0))
    yield _check("cores", str(cores), cores >= 2, "a run also works on one core, slowly", required=False)
    advice = "bf16 is only as fast as fp32 on this CPU; results have the same format"
    yield _check("processor", processor.kind(), processor.has_bf16(), advice, required=False)
    free = psutil.virtual_memory().available
    yield _check(
        "free memory", f"{free / GIB:.1f} GiB", free >= MEMORY_NEEDED, "stop other programs; the demo needs 6 GiB"
    )
    folder = next(path for path in (store, *store.parents) if path.exists())
    room = shutil.disk_usage(folder).free
    yield _check(
        "free disk", f"{room / GIB:.1f} GiB at {folder}", room >= DISK_NEEDED, "free 5 GiB or choose another --store"
    )
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        yield _check("store", f"{store} is writable", True)
    except OSError as error:
        yield _check("store", f"{store}: {error.strerror}", False, "fix its permissions or choose another --store")


def _lock() -> Check:
    """Installed versions against the lock file; a local suffix such as +cpu is ignored."""
    if not LOCK.is_file():
        return _check("packages", f"no {LOCK.name} in this installation", False, "run from a checkout", required=False)
    pinned_versions = pins(LOCK)
    differing = []
    for name, pinned in pinned_versions.items():
        try:
            installed = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if installed != pinned:
            differing.append(f"{name} {installed} (lock: {pinned})")
    summary = ", ".join(differing[:5]) if differing else f"{len(pinned_versions)} packages as locked"
    return _check("packages", summary, not differing, "remove .venv and run make test, which recreates it")


def _gpu() -> Iterator[Check]:
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        yield _check("torch", "not installed", False, "remove .venv and run make test")
        return
    yield _check("torch", torch, True)
    command = shutil.which("nvidia-smi")
    listed = ""
    if command:
        process = subprocess.run([command, "-L"], capture_output=True, text=True, check=False, timeout=30)
        listed = process.stdout.strip() if process.returncode == 0 else ""
    if not listed:
        advice = "not needed for the demo and stories; the 8B recipes need 8 GPUs with 80 GB"
        yield _check("GPU", "none: jobs run on the CPU", False, advice, required=False)
        return
    cpu_build = torch.endswith("+cpu")
    advice = "torch is a CPU build; remove .venv and run make test on this machine" if cpu_build else ""
    yield _check(
        "GPU", "; ".join(line.split(" (UUID")[0] for line in listed.splitlines()), not cpu_build, advice, required=False
    )


def _services(store: Path) -> Iterator[Check]:
    from tasks.tracking.servers import services

    addresses = services(store)
    for name, variable, fallback in (
        ("prefect", "PREFECT_API_URL", "a run starts its own"),
        ("mlflow", "MLFLOW_TRACKING_URI", "a run writes to a local database in the store"),
    ):
        url = os.environ.get(variable) or addresses.get(name)
        if not url:
            yield _check(f"{name} server", f"not configured: {fallback}", True)
            continue
        reached = not url.startswith("http") or _answers(f"{url.rstrip('/')}/health")
        advice = f"start it (imbik up), or unset {variable}: {fallback}"
        yield _check(f"{name} server", url if reached else f"{url} does not answer", reached, advice)


def _hub() -> Check:
    if os.environ.get("HF_HUB_OFFLINE"):
        return _check("hub", "disabled by HF_HUB_OFFLINE", False, "unset it, or use local paths", required=False)
    url = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    reached = _answers(url)
    return _check(
        "hub",
        f"{url} {'answers' if reached else 'does not answer'}",
        reached,
        "use local models and data",
        required=False,
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError):
        return False


def _check(name: str, found: str, ok: bool, remedy: str = "", *, required: bool = True) -> Check:
    return Check(name=name, found=found, ok=ok, required=required, remedy="" if ok else remedy)
