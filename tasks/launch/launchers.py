"""What it takes to run jobs, wherever: the protocol of launchers, and the one that picks the right one for each job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from conf.cluster import Cluster
from conf.parallel import Parallel
from conf.spec import Spec
from tasks.launch import submission
from tasks.launch.backend import Backend
from tasks.launch.protocol import Follow, JobListener, Launcher


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

    def run(self, spec: Spec, parallel: Parallel, follow: Follow, begin: Callable[[], None], tell: JobListener) -> None:
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


def _launcher(cluster: Cluster, store: Path) -> Launcher:
    from tasks.launch.cluster import ClusterLauncher
    from tasks.launch.local import LocalLauncher

    if cluster.kind == "local":
        return LocalLauncher(cluster)
    from tasks.launch.docker import Docker
    from tasks.launch.kubernetes import Kubernetes
    from tasks.launch.slurm import Slurm

    backend: Backend = {"docker": Docker, "slurm": Slurm, "kubernetes": Kubernetes}[cluster.kind](cluster, store)
    return ClusterLauncher(cluster, store, backend)
