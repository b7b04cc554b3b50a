"""What it takes to run jobs, wherever: the protocol that launchers follow, and what they tell of a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from conf.cluster import Cluster
from conf.parallel import Parallel
from conf.spec import HANG_SECONDS, TIME_LIMIT, TIME_MARGIN, Spec

Follow = Callable[[dict[str, Any]], None]
"""Is given every line of a job's metrics."""


class JobListener(Protocol):
    """Is given what there is to say of a job."""

    def state(self, text: str) -> None:
        """Where it is: in a queue, on nodes."""

    def line(self, text: str) -> None:
        """A line of its log."""


class Launcher(Protocol):
    """Runs jobs, many at once."""

    def prepare(self) -> None:
        """Jobs will come; call once, from the thread that lives as long as the flow."""

    def run(self, spec: Spec, parallel: Parallel, follow: Follow, begin: Callable[[], None], tell: JobListener) -> None:
        """Run one job to its end; `begin` is called when it has what it runs on. Raises JobFailed or Stopped."""

    def stop(self) -> None:
        """Start nothing more and end every job, asking first."""


def limits(cluster: Cluster, stage: str) -> dict[str, str]:
    """What a job's environment says of its time and its place: the contract of `conf.spec`, then the user's own
    variables. Where no cluster limits a job's time, what this process's environment says of it stays."""
    resources = cluster.resources(stage)
    found = {}
    if resources.time_limit_minutes or cluster.kind != "local":  # a queue may have a limit of its own
        found[TIME_MARGIN] = f"{resources.margin_seconds:g}"
    if resources.time_limit_minutes:
        found[TIME_LIMIT] = f"{resources.time_limit_minutes * 60:g}"
    if cluster.hang_seconds:
        found |= {HANG_SECONDS: f"{cluster.hang_seconds:g}"}
    return found | resources.environment
