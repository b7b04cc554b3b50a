"""Protocols of launchers and job listeners, and the environment variables for limits of jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from conf.cluster import Cluster
from conf.parallel import Parallel
from conf.spec import HANG_SECONDS, TIME_LIMIT, TIME_MARGIN, Spec

Follow = Callable[[dict[str, Any]], None]
"""Called with every line of a job's metrics."""


class JobListener(Protocol):
    """Receives the state and log of a job."""

    def state(self, text: str) -> None:
        """Where the job is: in a queue, on nodes."""

    def line(self, text: str) -> None:
        """A line of the job's log."""


class Launcher(Protocol):
    """Runs jobs, several at once."""

    def prepare(self) -> None:
        """Prepare for jobs; call once, from the thread that lives as long as the flow."""

    def run(
        self, spec: Spec, parallel: Parallel, follow: Follow, begin: Callable[[], None], listener: JobListener
    ) -> None:
        """Run one job to its end; `begin` is called when its resources are allocated. Raises JobFailed or Stopped."""

    def stop(self) -> None:
        """Start no more jobs and end all running ones, gracefully first."""


def limits(cluster: Cluster, stage: str) -> dict[str, str]:
    """Environment variables for a job's limits (see `conf.spec`), and those of the cluster file. Without a limit in the
    cluster file, variables of this process are kept."""
    resources = cluster.resources(stage)
    variables = {}
    if resources.time_limit_minutes or cluster.kind != "local":  # a queue may have its own limit
        variables[TIME_MARGIN] = f"{resources.margin_seconds:g}"
    if resources.time_limit_minutes:
        variables[TIME_LIMIT] = f"{resources.time_limit_minutes * 60:g}"
    if cluster.hang_seconds:
        variables |= {HANG_SECONDS: f"{cluster.hang_seconds:g}"}
    return variables | resources.environment
