"""What this machine can do, what is missing, and how to mend it; looks, changes nothing but a probe file in the store's
folder."""

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

LOCK = Path(__file__).parents[2] / "requirements.lock"
GIB = 1 << 30
MEMORY_NEEDED, DISK_NEEDED = 6 * GIB, 5 * GIB
"""What the demo needs: two jobs side by side, and its artifacts."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at; `needed` tells a fault from a limitation."""

    what: str
    found: str
    good: bool
    needed: bool = True
    mend: str = ""


def findings(store: Path) -> Iterator[Finding]:
    """Everything worth knowing before a run with this store, cheapest first."""
    yield from _machine(store)
    yield _lock()
    yield from _gpu()
    yield from _services(store)
    yield _hub()


def _machine(store: Path) -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield _finding(
        "Python", version, sys.version_info[:2] == (3, 11), "install Python 3.11, remove .venv and run make test"
    )
    cores = len(os.sched_getaffinity(0))
    yield _finding("cores", str(cores), cores >= 2, "a run works on one core, slowly", needed=False)
    advice = "as fast as fp32 on this one; formats and checkpoints are the same"
    yield _finding("processor", processor.kind(), processor.has_bf16(), advice, needed=False)
    free = psutil.virtual_memory().available
    yield _finding(
        "free memory", f"{free / GIB:.1f} GiB", free >= MEMORY_NEEDED, "end other programs; the demo needs 6 GiB"
    )
    folder = next(path for path in (store, *store.parents) if path.exists())
    room = shutil.disk_usage(folder).free
    yield _finding(
        "free disk", f"{room / GIB:.1f} GiB at {folder}", room >= DISK_NEEDED, "free 5 GiB or choose another --store"
    )
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        yield _finding("store", f"{store} can be written", True)
    except OSError as error:
        yield _finding("store", f"{store}: {error.strerror}", False, "mend its permissions or choose another --store")


def _lock() -> Finding:
    """Installed versions against the lock; a local suffix such as +cpu is another build of the same version."""
    if not LOCK.is_file():
        return _finding(
            "packages", "no requirements.lock beside this installation", False, "run from a checkout", needed=False
        )
    pins = [
        line.strip().split("==") for line in LOCK.read_text().splitlines() if "==" in line and not line.startswith("#")
    ]
    wrong = []
    for name, pinned in pins:
        try:
            installed = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if installed != pinned:
            wrong.append(f"{name} {installed} (lock: {pinned})")
    found = ", ".join(wrong[:5]) if wrong else f"{len(pins)} packages as locked"
    return _finding("packages", found, not wrong, "remove .venv and run make test, which makes it anew")


def _gpu() -> Iterator[Finding]:
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        yield _finding("torch", "not installed", False, "remove .venv and run make test")
        return
    yield _finding("torch", torch, True)
    command = shutil.which("nvidia-smi")
    listed = ""
    if command:
        done = subprocess.run([command, "-L"], capture_output=True, text=True, check=False, timeout=30)
        listed = done.stdout.strip() if done.returncode == 0 else ""
    if not listed:
        advice = "none needed for the demo and stories; the 8B recipes need 8 GPUs of 80 GB"
        yield _finding("GPU", "none: jobs run on the CPU", False, advice, needed=False)
        return
    cpu_build = torch.endswith("+cpu")
    advice = "torch is the CPU build: remove .venv and run make test on this machine" if cpu_build else ""
    yield _finding(
        "GPU", "; ".join(line.split(" (UUID")[0] for line in listed.splitlines()), not cpu_build, advice, needed=False
    )


def _services(store: Path) -> Iterator[Finding]:
    from tasks.tracking.servers import services

    known = services(store)
    for name, variable, instead in (
        ("prefect", "PREFECT_API_URL", "a run starts its own"),
        ("mlflow", "MLFLOW_TRACKING_URI", "a run writes to a local database in the store"),
    ):
        url = os.environ.get(variable) or known.get(name)
        if not url:
            yield _finding(f"{name} server", f"none named: {instead}", True)
            continue
        reached = not url.startswith("http") or _answers(f"{url.rstrip('/')}/health")
        advice = f"start it (imbik up), or unset {variable}: {instead}"
        yield _finding(f"{name} server", url if reached else f"{url} does not answer", reached, advice)


def _hub() -> Finding:
    if os.environ.get("HF_HUB_OFFLINE"):
        return _finding("hub", "switched off by HF_HUB_OFFLINE", False, "unset it, or name local paths", needed=False)
    url = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    reached = _answers(url)
    return _finding(
        "hub",
        f"{url} {'answers' if reached else 'does not answer'}",
        reached,
        "name local models and data",
        needed=False,
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError):
        return False


def _finding(what: str, found: str, good: bool, mend: str = "", *, needed: bool = True) -> Finding:
    return Finding(what=what, found=found, good=good, needed=needed, mend="" if good else mend)
