"""The interface of a cluster to its launcher: submit, query and cancel jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from conf.cluster import Resources

Phase = Literal["queued", "running", "done", "failed", "lost"]
"""`lost`: the cluster no longer knows the job and there is no trace of its end."""

Cause = Literal["time", "memory", "preempted", "node", "cancelled", "never-started"]
"""External reason for the end of a job."""

SCRIPT_LOG = "script.log"
"""File in a job's output with messages of the script around its ranks and of the cluster."""


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """One job to submit; `ranks` is the number of ranks per node. An `array` is of so many jobs of one rank each that
    know nothing of each other: where one ends the others go on."""

    name: str
    stage: str
    spec: Path
    store: Path
    resources: Resources
    nodes: int
    ranks: int
    array: int = 1
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """The work folder, which must have the same path for the job."""
        return self.spec.parent

    @property
    def log(self) -> Path:
        """Log file for the output of all ranks."""
        return self.output / "job.log"


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """State of a job: `detail` for display (queue or nodes), `cause` if it was ended externally."""

    phase: Phase
    detail: str = ""
    cause: Cause | None = None


class Backend(Protocol):
    """One cluster."""

    @property
    def poll_seconds(self) -> float:
        """Seconds between status queries."""

    def check(self, job: JobRequest) -> None:
        """Raise ValueError if the job cannot run there."""

    def submit(self, job: JobRequest) -> str:
        """Submit the job; returns its id on the cluster. Raises SubmitError with the cluster's message."""

    def find(self, name: str) -> str | None:
        """The id of a queued or running job with this name; None if there is none or the cluster cannot search."""

    def status(self, job: str, log: Path) -> JobStatus:
        """Current state of the job. Raises Unreachable or errors of the connection."""

    def cancel(self, job: str, *, hard: bool) -> None:
        """Ask the job to end, or kill it (`hard`)."""

    def close(self) -> None:
        """Close connections."""


class Unreachable(RuntimeError):
    """The cluster does not answer; the message is its error."""


class SubmitError(RuntimeError):
    """The cluster rejected the job; the message is its error."""
