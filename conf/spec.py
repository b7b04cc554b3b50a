"""Files exchanged between a task and its job (spec, exit), and the record of a sealed artifact."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from conf.base import Config

ERROR_PREFIX = "imbik-error: "
"""Prefix of the line that a failing job prints; the launcher shows it to the user."""

ENDED = "ended.json"
"""File in a failed job's output: a `JobExit`. Exit codes do not survive torchrun and srun."""

Reason = Literal["time", "memory", "mistake", "fault", "hang", "terminated", "diverged"]
"""Why a job failed. time, terminated: time limit or SIGTERM, after saving; memory: a rank ran out of memory; mistake:
invalid input or a limit of the machine; fault: a bug; hang: a rank made no progress; diverged: training starts over
with a smaller learning rate."""

EXIT_CODES: dict[Reason, int] = {
    "fault": 1,
    "mistake": 2,
    "time": 75,
    "memory": 76,
    "hang": 77,
    "diverged": 78,
    "terminated": 143,
}
"""Exit code of a single process by reason; 0 is success."""

TIME_LIMIT = "IMBIK_TIME_LIMIT"
"""Environment variable: time limit of this attempt in seconds of the monotonic clock; unset: no limit."""

TIME_MARGIN = "IMBIK_TIME_MARGIN"
"""Environment variable: seconds before the limit at which the job saves and exits with reason time."""

TIME_MARGIN_SECONDS = 120.0

HANG_SECONDS = "IMBIK_HANG_SECONDS"
"""Environment variable: seconds without progress of any rank after which a job counts as hung and is ended; 0:
never."""

HANG_SECONDS_DEFAULT = 1800.0
"""Longer than any step, validation or evaluation of an 8B model."""

RANK_OF_ARRAY = "IMBIK_ARRAY_RANK"
"""Environment variable: which rank of a curation this process is; unset: it starts all of them itself."""

BF16_KERNELS = "IMBIK_BF16_KERNELS"
"""Environment variable: `native` or `fp32`, the kernels for bf16 matrix products on a CPU; unset: native if supported.
For tests and benchmarks: results are equal up to bf16 rounding."""


class Spec(Config):
    """The one JSON file a job reads: `python -m jobs.<stage> --spec spec.json`."""

    stage: str = Field(description="Name of the program under jobs/.")
    key: str = Field(description="Store key of the artifact.")
    config: dict[str, Any] = Field(description="The stage's validated config, as JSON.")
    inputs: dict[str, str] = Field(default={}, description="Absolute path of each input by role.")
    output: str = Field(description="Absolute path of the output folder; it exists and is kept for retries.")


class JobExit(Config):
    """`ended.json`: why a job failed, written by the first rank that fails."""

    reason: Reason
    rank: int = Field(ge=0, description="Rank that failed or hung.")
    sentence: str = Field(description="Message for the user: what went wrong and what to do.")


class Attempt(Config):
    """One attempt of a stage's job."""

    reason: Reason | Literal["done", "preempted", "node", "killed", "never-started"] = Field(
        description="How it ended."
    )
    seconds: float = Field(description="Duration in seconds.")
    steps: int = Field(description="Steps gained, which the next attempt does not repeat.")
    sentence: str = Field(default="", description="Message about its end.")


class File(Config):
    """One file of an artifact."""

    bytes: int
    sha256: str


class Record(Config):
    """`artifact.json`, written last: a folder without it is not an artifact."""

    stage: str
    key: str
    revision: int
    config: dict[str, Any] = Field(description="The full validated config, including execution fields.")
    hashed: dict[str, Any] = Field(description="The part of the config that is hashed.")
    inputs: dict[str, str] = Field(description="Store key or content digest of each input by role.")
    files: dict[str, File]
    seconds: float
    created: str
    versions: dict[str, str]
    commit: str | None = None
    run: dict[str, str] = Field(default={}, description="Flow run and MLflow run ids.")
    attempts: tuple[Attempt, ...] = Field(default=(), description="All attempts of its job; the last one succeeded.")
