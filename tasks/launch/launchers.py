"""Selects the launcher for each job."""

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
    """The launcher of the flow's cluster, and launchers of other clusters on which a killed flow left a running job."""

    def __init__(self, cluster: Cluster, store: Path) -> None:
        self.cluster, self.store = cluster, store
        self._lock = threading.Lock()
        self._launchers: list[tuple[Cluster, Launcher]] = []
        self._of(cluster)

    def prepare(self) -> None:
        """Prepare the launcher of the flow's cluster."""
        self._of(self.cluster).prepare()

    def run(
        self, spec: Spec, parallel: Parallel, follow: Follow, begin: Callable[[], None], listener: JobListener
    ) -> None:
        """Run one job on its cluster."""
        submitted = submission.read(spec.output)
        self._of(submitted.cluster if submitted else self.cluster).run(spec, parallel, follow, begin, listener)

    def stop(self) -> None:
        """End all jobs."""
        with self._lock:
            launchers = [launcher for _, launcher in self._launchers]
        for launcher in launchers:
            launcher.stop()

    def _of(self, cluster: Cluster) -> Launcher:
        with self._lock:
            launcher = next((launcher for known, launcher in self._launchers if known == cluster), None)
            if launcher is None:
                launcher = _launcher(cluster, self.store)
                self._launchers.append((cluster, launcher))
            return launcher


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
