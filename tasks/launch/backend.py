"""What a cluster is to its launcher: where to submit a job, to ask for its state, and to cancel it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from conf.cluster import Resources

Phase = Literal["queued", "running", "done", "failed", "lost"]
"""`lost`: the cluster does not know the job any more and left no trace of its end."""

Cause = Literal["time", "memory", "preempted", "node", "cancelled", "never-started"]
"""What befell a job from outside."""

SCRIPT_LOG = "script.log"
"""In a job's output: what the script around its ranks prints, and what the cluster says when it ends one."""


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """One job to submit. `ranks` are those of each of its `nodes`."""

    name: str
    stage: str
    spec: Path
    store: Path
    resources: Resources
    nodes: int
    ranks: int
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """The work folder, which the job must see under the same path."""
        return self.spec.parent

    @property
    def log(self) -> Path:
        """Where everything that its ranks print is written."""
        return self.output / "job.log"


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """A job's state: `detail` for people (where it waits, on which nodes it runs), `cause` where its end came from
    outside."""

    phase: Phase
    detail: str = ""
    cause: Cause | None = None


class Backend(Protocol):
    """One cluster."""

    @property
    def poll_seconds(self) -> float:
        """Between two looks."""

    def check(self, job: JobRequest) -> None:
        """Raise ValueError with one sentence if the job cannot run there as it is."""

    def submit(self, job: JobRequest) -> str:
        """Give the job to the cluster; returns its name there. Raises SubmitError with the cluster's own words."""

    def find(self, name: str) -> str | None:
        """A job of this name that waits or runs, if the cluster can be asked."""

    def status(self, job: str, log: Path) -> JobStatus:
        """The job's state now. Raises Unreachable, or whatever its connection does, where it cannot be asked."""

    def cancel(self, job: str, *, hard: bool) -> None:
        """Ask the job to end, or end it."""

    def close(self) -> None:
        """Close connections."""


class Unreachable(RuntimeError):
    """The cluster cannot be asked now; the message is what it said instead."""


class SubmitError(RuntimeError):
    """The cluster refused the job; the message is its own first line."""
