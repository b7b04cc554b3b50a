"""What was submitted to a cluster, written beside the work folder: a flow that was killed and starts again finds its
job by it.

It is read and written under the stage's lock only, which the kernel frees with the process that held it.
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
    """A job that was given to a cluster and whose end nobody has seen yet."""

    cluster: Cluster
    job: str = Field(description="The cluster's own name of the job: a Slurm job id, or NeMo-Run's handle.")
    stage: str
    submitted: float = Field(description="Seconds since the epoch, for people.")
    step: int = Field(
        default=0,
        ge=0,
        description="Step that it went on from, by which its gain is told when it ends under another flow.",
    )


def name_of(stage: str, output: str) -> str:
    """The job's name in the queue, the same for every try of the same work folder: a job whose record was lost is found
    by it."""
    return f"imbik-{hashlib.sha256(output.encode()).hexdigest()[:12]}-{stage}"


def read(output: str) -> Submission | None:
    """The submission of a work folder that is not known to have ended."""
    try:
        return Submission.model_validate_json(_path(output).read_text())
    except (OSError, ValueError):
        return None


def write(output: str, submission: Submission) -> None:
    """Remember a job; whole or not at all."""
    write_whole(_path(output), submission.model_dump_json(exclude_unset=True))


def forget(output: str) -> None:
    """Its end was seen."""
    with contextlib.suppress(FileNotFoundError):
        _path(output).unlink()


def _path(output: str) -> Path:
    return Path(output).with_name(Path(output).name + ".submission.json")
