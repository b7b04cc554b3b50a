"""Submitted jobs, stored next to the work folder, so that a restarted flow finds its job.

Read and written only under the stage's lock, which the kernel releases with its process.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from pydantic import Field

from conf.base import Config
from conf.cluster import Cluster
from conf.files import write_whole


class Submission(Config):
    """A submitted job whose end was not observed yet."""

    cluster: Cluster
    job: str = Field(description="Job id on the cluster: a Slurm job id or NeMo-Run's handle.")
    stage: str
    submitted: float = Field(description="Time of submission in seconds since the epoch.")
    step: int = Field(
        default=0,
        ge=0,
        description="Step that it resumed from, for counting gained steps if it ends under another flow.",
    )


def name_of(stage: str, output: str) -> str:
    """The job's name in the queue, the same for all attempts in a work folder, so that a job without a record can be
    found."""
    return f"imbik-{hashlib.sha256(output.encode()).hexdigest()[:12]}-{stage}"


def read(output: str) -> Submission | None:
    """The unfinished submission of a work folder, or None."""
    try:
        return Submission.model_validate_json(_path(output).read_text())
    except (OSError, ValueError):
        return None


def write(output: str, submission: Submission) -> None:
    """Store a submission atomically."""
    write_whole(_path(output), submission.model_dump_json(exclude_unset=True))


def forget(output: str) -> None:
    """Remove the submission of a finished job."""
    with contextlib.suppress(FileNotFoundError):
        _path(output).unlink()


def _path(output: str) -> Path:
    return Path(output).with_name(Path(output).name + ".submission.json")
