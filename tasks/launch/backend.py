"""What a cluster is to its launcher: a place to submit a job, to ask for its state, and to cancel it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from conf.cluster import Place

Phase = Literal["queued", "running", "done", "failed", "lost"]
"""`lost`: the cluster does not know the job any more and left no trace of its end."""

Blame = Literal["time", "memory", "preempted", "node", "cancelled", "never-started"]
"""What befell a job from outside."""

SCRIPT_LOG = "script.log"
"""In a job's output: what the script around its ranks prints, and what the cluster says when it ends one."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job to submit. `ranks` are those of each of its `nodes`."""

    name: str
    stage: str
    spec: Path
    store: Path
    place: Place
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
class Seen:
    """A job's state: `told` for people (where it waits, on which nodes it runs), `blame` where its end came from
    outside."""

    phase: Phase
    told: str = ""
    blame: Blame | None = None


class Site(Protocol):
    """One cluster."""

    @property
    def poll_seconds(self) -> float:
        """Between two looks."""

    def check(self, job: Job) -> None:
        """Raise ValueError with one sentence if the job cannot run there as it is."""

    def submit(self, job: Job) -> str:
        """Give the job to the cluster; returns its name there. Raises SubmitError with the cluster's own words."""

    def find(self, name: str) -> str | None:
        """A job of this name that waits or runs, if the cluster can be asked."""

    def look(self, job: str, log: Path) -> Seen:
        """The job's state now. Raises Unreachable, or whatever its connection does, where it cannot be asked."""

    def cancel(self, job: str, *, hard: bool) -> None:
        """Ask the job to end, or end it."""

    def close(self) -> None:
        """Close connections."""


class Unreachable(RuntimeError):
    """The cluster cannot be asked now; the message is what it said instead."""


class SubmitError(RuntimeError):
    """The cluster refused the job; the message is its own first line."""
