"""`imbik doctor --cluster`: a one-minute job on the cluster says what the nodes have, and this compares it with what
they should."""

from __future__ import annotations

import importlib.metadata
import json
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from conf.cluster import Cluster
from conf.parallel import Parallel
from conf.spec import Spec
from flows.doctor.machine import Check
from tasks.build import VERSIONED
from tasks.launch.launchers import Launchers
from tasks.store.store import Store

LOCK = Path(__file__).parents[2] / "requirements.lock"
LOW_GB = 50.0


class Shown:
    """Passes on where the job is."""

    def __init__(self, show: Any) -> None:
        self.state = show

    def line(self, text: str) -> None:
        """The job's log stays in its file."""


def checks(cluster: Cluster, root: Path, show: Any) -> list[Check]:
    """Submit the job, wait for it, and judge what it found; `show` is given its states. Raises JobFailed where it does
    not run."""
    store = Store(root)
    store.create()
    output = store.root / ".work" / f"doctor-{time.time_ns()}"
    output.mkdir()
    token = secrets.token_hex(8)
    (output / "probe").write_text(token)
    wanted = _wanted()
    config = {"packages": sorted(wanted), "token": token}
    spec = Spec(stage="doctor", key="doctor", config=config, output=str(output))
    launcher = Launchers(cluster, store.root)
    begun = time.monotonic()
    try:
        launcher.run(spec, _ranks(cluster), lambda line: None, lambda: None, Shown(show))
        found = json.loads((output / "doctor.json").read_text())
    finally:
        launcher.stop()
    shutil.rmtree(output)
    return _judged(cluster, found, wanted, time.monotonic() - begun)


def _ranks(cluster: Cluster) -> Parallel:
    """As many ranks as the cluster file gives the job: a rank a GPU, and two where there is no GPU to count."""
    resources = cluster.resources("doctor")
    return resources.parallel or Parallel(
        processes=(resources.nodes or 1) * resources.gpus_per_node or max(2, resources.nodes or 1), threads=1
    )


def _wanted() -> dict[str, str]:
    """Versions a worker should have: the lock's, or this environment's where the lock is not at hand."""
    locked = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", LOCK.read_text(), re.MULTILINE)) if LOCK.is_file() else {}
    names = [name for name in VERSIONED if name not in ("prefect", "mlflow")]  # the control side's own
    known = {name.replace("_", "-").lower(): version for name, version in locked.items()}
    return {name: known.get(name.replace("_", "-").lower()) or importlib.metadata.version(name) for name in names}


def _judged(cluster: Cluster, found: dict[str, Any], wanted: dict[str, str], seconds: float) -> list[Check]:
    ranks = found["ranks"]
    nodes = sorted({rank["node"] for rank in ranks})
    resources = cluster.resources("doctor")
    gpus = [rank["gpu"] for rank in ranks if rank["gpu"]]
    named = ", ".join(sorted({f"{gpu['name']} {gpu['memory_gb']:g} GB" for gpu in gpus})) or "none"
    free, unseen = min(rank["free_gb"] for rank in ranks), [rank["node"] for rank in ranks if not rank["store"]]
    others = _others(ranks, wanted)
    bandwidth, blind = found["bandwidth_gb_s"], resources.gpus_per_node and len(gpus) < len(ranks)
    exchanged = f"{bandwidth} GB/s of bus bandwidth ({found['backend']}, 64 MB)" if bandwidth else "one rank"
    seen = f"every rank reads it, {free:g} GB free" if not unseen else f"not seen on {', '.join(unseen)}"
    return [
        _check("nodes", f"{', '.join(nodes)}: {len(ranks)} ranks, answered in {seconds:.0f} s", ""),
        _check(
            "GPUs",
            f"{len(gpus)} of {len(ranks)} ranks have one ({named})",
            "the job got no GPU, or its torch has no CUDA" * bool(blind),
        ),
        _check(
            "all-reduce between ranks",
            exchanged,
            "give stages.doctor two ranks or more" * (not bandwidth),
            required=False,
        ),
        _check("store", seen, "put the store where all nodes see it under one path" * bool(unseen)),
        _check(
            "disk", f"{free:g} GB free", "imbik plan says how much a recipe needs" * (free < LOW_GB), required=False
        ),
        _check(
            "versions",
            others or "as locked",
            "install the lock, or build deploy/worker.Dockerfile" * bool(others),
            required=False,
        ),
    ]


def _check(name: str, found: str, remedy: str, *, required: bool = True) -> Check:
    """Ok where there is no remedy to give."""
    return Check(name=name, found=found, ok=not remedy, required=required, remedy=remedy)


def _others(ranks: list[dict[str, Any]], wanted: dict[str, str]) -> str:
    """Packages of the first rank that differs from the lock, with both versions."""
    for rank in ranks:
        pairs = [(name, rank["versions"].get(name), version) for name, version in wanted.items()]
        differing = [
            f"{name} {there or 'missing'}, not {version}" for name, there, version in pairs if not _same(there, version)
        ]
        if differing:
            return f"{rank['node']}: {'; '.join(differing)}"
    return ""


def _same(there: str | None, wanted: str) -> bool:
    """Equal but for the build (`2.13.0+cpu`)."""
    return bool(there) and str(there).partition("+")[0] == wanted.partition("+")[0]
