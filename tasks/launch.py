"""What it takes to run jobs, wherever: the protocol of launchers, and the one that picks the right one for each job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from conf.clusters import Cluster
from conf.parallel import Parallel
from conf.spec import HANG_SECONDS, TIME_LIMIT, TIME_MARGIN, Spec
from tasks import submission
from tasks.site import Site

Follow = Callable[[dict[str, Any]], None]
"""Is given every line of a job's metrics."""


class Tell(Protocol):
    """Is given what there is to say of a job."""

    def state(self, text: str) -> None:
        """Where it is: in a queue, on nodes."""

    def line(self, text: str) -> None:
        """A line of its log."""


class Launcher(Protocol):
    """Runs jobs, many at once."""

    def prepare(self) -> None:
        """Jobs will come; call once, from the thread that lives as long as the flow."""

    def run(self, spec: Spec, parallel: Parallel, follow: Follow, begin: Callable[[], None], tell: Tell) -> None:
        """Run one job to its end; `begin` is called when it has what it runs on. Raises JobFailed or Stopped."""

    def stop(self) -> None:
        """Start nothing more and end every job, asking first."""


class Launchers:
    """The launcher of the flow's cluster, and of any other on which a killed flow has left a job that still runs."""

    def __init__(self, cluster: Cluster, store: Path) -> None:
        self.cluster, self.store = cluster, store
        self._lock = threading.Lock()
        self._made: list[tuple[Cluster, Launcher]] = []
        self._of(cluster)

    def prepare(self) -> None:
        """Let the flow's cluster get ready."""
        self._of(self.cluster).prepare()

    def run(self, spec: Spec, parallel: Parallel, follow: Follow, begin: Callable[[], None], tell: Tell) -> None:
        """Run one job where it belongs."""
        known = submission.read(spec.output)
        self._of(known.cluster if known else self.cluster).run(spec, parallel, follow, begin, tell)

    def stop(self) -> None:
        """End every job."""
        with self._lock:
            launchers = [launcher for _, launcher in self._made]
        for launcher in launchers:
            launcher.stop()

    def _of(self, cluster: Cluster) -> Launcher:
        with self._lock:
            found = next((launcher for known, launcher in self._made if known == cluster), None)
            if found is None:
                found = _launcher(cluster, self.store)
                self._made.append((cluster, found))
            return found


def limits(cluster: Cluster, stage: str) -> dict[str, str]:
    """What a job's environment says of its time and of its place: the contract of `conf.spec`, then the user's own variables. Where no
    cluster limits a job's time, what this process's environment says of it stays."""
    place = cluster.place(stage)
    found = {}
    if place.time_limit_minutes or cluster.kind != "local":  # a queue may have a limit of its own
        found[TIME_MARGIN] = f"{place.margin_seconds:g}"
    if place.time_limit_minutes:
        found[TIME_LIMIT] = f"{place.time_limit_minutes * 60:g}"
    if cluster.hang_seconds:
        found |= {HANG_SECONDS: f"{cluster.hang_seconds:g}"}
    return found | place.environment


def _launcher(cluster: Cluster, store: Path) -> Launcher:
    from tasks.cluster import ClusterLauncher
    from tasks.local import LocalLauncher

    if cluster.kind == "local":
        return LocalLauncher(cluster)
    from tasks.docker import Docker
    from tasks.kubernetes import Kubernetes
    from tasks.slurm import Slurm

    site: Site = {"docker": Docker, "slurm": Slurm, "kubernetes": Kubernetes}[cluster.kind](cluster, store)
    return ClusterLauncher(cluster, store, site)
