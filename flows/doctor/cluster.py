"""`imbik doctor --cluster`: runs a one-minute job on the cluster and compares its nodes with the requirements."""

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
from conf.engines import vllm
from conf.parallel import Parallel
from conf.spec import Spec
from flows.doctor.lock import LOCK, pins
from flows.doctor.machine import Check
from tasks.build import VERSIONED
from tasks.launch.launchers import Launchers
from tasks.store.store import Store

LOW_GB = 50.0


class Shown:
    """Passes on the state of the job."""

    def __init__(self, show: Any) -> None:
        self.state = show

    def line(self, text: str) -> None:
        """Ignored; the job's log stays in its file."""


def checks(cluster: Cluster, root: Path, show: Any) -> list[Check]:
    """Submit the job, wait for it and check its results; `show` gets its states. Raises JobFailed."""
    store = Store(root)
    store.create()
    output = store.root / ".work" / f"doctor-{time.time_ns()}"
    output.mkdir()
    token = secrets.token_hex(8)
    (output / "probe").write_text(token)
    versions = _wanted()
    config = {"packages": sorted(versions), "token": token}
    spec = Spec(stage="doctor", key="doctor", config=config, output=str(output))
    launcher = Launchers(cluster, store.root)
    begun = time.monotonic()
    try:
        launcher.run(spec, _ranks(cluster), lambda line: None, lambda: None, Shown(show))
        results = json.loads((output / "doctor.json").read_text())
    finally:
        launcher.stop()
    shutil.rmtree(output)
    return _judged(cluster, results, versions, time.monotonic() - begun)


def _ranks(cluster: Cluster) -> Parallel:
    """Ranks of the job from the cluster file: one per GPU, or two without GPUs."""
    resources = cluster.resources("doctor")
    return resources.parallel or Parallel(
        processes=(resources.nodes or 1) * resources.gpus_per_node or max(2, resources.nodes or 1), threads=1
    )


def _wanted() -> dict[str, str]:
    """Required versions: from the lock file, else from this environment."""
    locked = pins(LOCK) if LOCK.is_file() else {}
    names = [name for name in VERSIONED if name not in ("prefect", "mlflow")]  # used on the control side only
    by_name = {name.replace("_", "-").lower(): version for name, version in locked.items()}
    return {name: by_name.get(name.replace("_", "-").lower()) or importlib.metadata.version(name) for name in names}


def _judged(cluster: Cluster, results: dict[str, Any], versions: dict[str, str], seconds: float) -> list[Check]:
    ranks = results["ranks"]
    nodes = sorted({rank["node"] for rank in ranks})
    resources = cluster.resources("doctor")
    gpus = [rank["gpu"] for rank in ranks if rank["gpu"]]
    names = ", ".join(sorted({f"{gpu['name']} {gpu['memory_gb']:g} GB" for gpu in gpus})) or "none"
    free, unseen = min(rank["free_gb"] for rank in ranks), [rank["node"] for rank in ranks if not rank["store"]]
    other_versions = _others(ranks, versions)
    bandwidth, too_few_gpus = results["bandwidth_gb_s"], resources.gpus_per_node and len(gpus) < len(ranks)
    exchange = f"{bandwidth} GB/s of bus bandwidth ({results['backend']}, 64 MB)" if bandwidth else "one rank"
    visibility = f"readable from every rank, {free:g} GB free" if not unseen else f"not visible on {', '.join(unseen)}"
    found = [
        _check("nodes", f"{', '.join(nodes)}: {len(ranks)} ranks answered in {seconds:.0f} s", ""),
        _check(
            "GPUs",
            f"{len(gpus)} of {len(ranks)} ranks have a GPU ({names})",
            "check that the job gets GPUs and that its torch has CUDA" * bool(too_few_gpus),
        ),
        _check(
            "all-reduce between ranks",
            exchange,
            "set at least two ranks in stages.doctor" * (not bandwidth),
            required=False,
        ),
        _check("store", visibility, "put the store on a path that is the same on all nodes" * bool(unseen)),
        _check(
            "disk", f"{free:g} GB free", "check the need of a recipe with imbik plan" * (free < LOW_GB), required=False
        ),
        _check(
            "versions",
            other_versions or "as locked",
            f"install {LOCK.name}, or build deploy/worker.Dockerfile" * bool(other_versions),
            required=False,
        ),
    ]
    return found + _vllm(ranks)


def _vllm(ranks: list[dict[str, Any]]) -> list[Check]:
    """The vLLM that jobs find on the nodes; nothing where none is named."""
    told = sorted({found for rank in ranks if (found := rank.get("vllm"))})
    wrong = [one for one in told if not re.match(r"\d", one)]
    remedy = f"name a Python with vLLM on the nodes in defaults.environment.{vllm.PYTHON}" * bool(wrong)
    return [_check("vLLM", "; ".join(wrong or told), remedy, required=False)] if told else []


def _check(name: str, found: str, remedy: str, *, required: bool = True) -> Check:
    """A check that is ok if it has no remedy."""
    return Check(name=name, found=found, ok=not remedy, required=required, remedy=remedy)


def _others(ranks: list[dict[str, Any]], versions: dict[str, str]) -> str:
    """Packages with versions other than the lock's, for the first rank that has any."""
    for rank in ranks:
        pairs = [(name, rank["versions"].get(name), version) for name, version in versions.items()]
        differing = [
            f"{name} {installed or 'missing'}, not {version}"
            for name, installed, version in pairs
            if not _same(installed, version)
        ]
        if differing:
            return f"{rank['node']}: {'; '.join(differing)}"
    return ""


def _same(installed: str | None, wanted: str) -> bool:
    """Whether versions are equal, ignoring the build suffix (`2.13.0+cpu`)."""
    return bool(installed) and str(installed).partition("+")[0] == wanted.partition("+")[0]
