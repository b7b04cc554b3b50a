"""What passes between a task and the program it submits, and what a sealed artifact says of itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from conf.base import Config

ERROR_PREFIX = "imbik-error: "
"""A failing job prints one line that starts so; the launcher shows it to the user."""

ENDED = "ended.json"
"""In a job's output when it ended without its result: an `JobExit`. Exit codes do not survive torchrun and srun."""

Reason = Literal["time", "memory", "mistake", "fault", "hang", "terminated"]
"""Why a job ended without its result: its time was up or SIGTERM asked it to (what it had is saved), a rank had too
little memory, the user's mistake or the machine's limit, our fault, or a rank made no progress."""

EXIT_CODES: dict[Reason, int] = {"fault": 1, "mistake": 2, "time": 75, "memory": 76, "hang": 77, "terminated": 143}
"""Exit code of a single process by reason; 0 is done."""

TIME_LIMIT = "IMBIK_TIME_LIMIT"
"""Environment: seconds that this attempt of a job may take, from its start by the monotonic clock; absent: no limit."""

TIME_MARGIN = "IMBIK_TIME_MARGIN"
"""Environment: seconds before the limit at which the job saves what it has and ends with reason time."""

TIME_MARGIN_SECONDS = 120.0

HANG_SECONDS = "IMBIK_HANG_SECONDS"
"""Environment: a job none of whose ranks made progress for so long hangs and is ended; 0: never."""

HANG_SECONDS_DEFAULT = 1800.0
"""Above the longest step, validation or evaluation on the way of an 8B model."""

BF16_KERNELS = "IMBIK_BF16_KERNELS"
"""Environment: `native` or `fp32`, the kernels that multiply bf16 matrices on a CPU whatever it has; absent: native
ones where there are. For tests and measurements: what is made is the same to bf16's rounding."""


class Spec(Config):
    """The one JSON file a job reads: `python -m jobs.<stage> --spec spec.json`."""

    stage: str = Field(description="Name of the program under jobs/.")
    key: str = Field(description="Store key of what is made.")
    config: dict[str, Any] = Field(description="The stage's validated config, as JSON.")
    inputs: dict[str, str] = Field(default={}, description="Absolute path of each input by its role.")
    output: str = Field(description="Absolute path of the folder to write into; it exists and survives a retry.")


class JobExit(Config):
    """`ended.json`: why a job ended without its result. The rank that wrote it first is the one to blame."""

    reason: Reason
    rank: int = Field(ge=0, description="Rank that ended, or hung.")
    sentence: str = Field(description="For the user: what went wrong and what to do.")


class Attempt(Config):
    """One try of a stage's job."""

    reason: Reason | Literal["done", "preempted", "node", "killed", "never-started"] = Field(
        description="How it ended."
    )
    seconds: float = Field(description="From its start to its end.")
    steps: int = Field(description="Steps it gained: what the next attempt need not do again.")
    sentence: str = Field(default="", description="What was said of its end.")


class File(Config):
    """One file of an artifact."""

    bytes: int
    sha256: str


class Record(Config):
    """`artifact.json`, written last: an artifact without it does not exist."""

    stage: str
    key: str
    revision: int
    config: dict[str, Any] = Field(description="The whole validated config, execution fields included.")
    hashed: dict[str, Any] = Field(description="The part of the config that is hashed.")
    inputs: dict[str, str] = Field(description="Store key or content digest of each input by its role.")
    files: dict[str, File]
    seconds: float
    created: str
    versions: dict[str, str]
    commit: str | None = None
    run: dict[str, str] = Field(default={}, description="Flow run and MLflow run ids.")
    attempts: tuple[Attempt, ...] = Field(default=(), description="Every try of its job, the last of which is done.")
