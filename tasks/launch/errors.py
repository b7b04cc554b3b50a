"""Errors of jobs: one sentence, and a reason for the retry policy (`tasks.launch.retry`)."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Literal

from conf.spec import ENDED, ERROR_PREFIX, EXIT_CODES, JobExit, Reason

Failure = Reason | Literal["preempted", "node", "killed", "never-started"]
"""Why a job failed: its own reason or an external one."""


class JobFailed(RuntimeError):
    """A job failed; the message is one sentence for the user."""

    def __init__(self, message: str, reason: Failure = "fault") -> None:
        super().__init__(message)
        self.reason: Failure = reason


class Stopped(RuntimeError):
    """The run is stopping; no more jobs are started."""


def interrupted(error: BaseException) -> bool:
    """Whether a stage or run did not fail itself but was stopped (Ctrl-C, SIGTERM, cancelled): the same command
    continues it."""
    return isinstance(error, Stopped) or not isinstance(error, Exception)


def failure(stage: str, code: int, log: Path, rank: int | None = None) -> JobFailed:
    """The error of a failed job: from its `ended.json`, from a signal, or from its log. `code` is the exit code of the
    job, or of the `rank` that failed first."""
    ended = _ended(log.with_name(ENDED))
    if ended and ended.reason != "terminated":
        return JobFailed(f"{stage}: {ended.sentence}", ended.reason)
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    again = f"run the same command again to continue (log: {log})"
    if code < 0:
        who = "its process" if rank is None else f"rank {rank}"
        return JobFailed(f"{stage}: {who} was ended by {signal.Signals(-code).name}; {again}", "killed")
    # torchrun's summary: network errors of other ranks are a consequence of the killed one.
    for rank, number in re.findall(r"rank\s*: (\d+).*\n\s*exitcode\s*: -(\d+)", text):
        if int(number) != signal.SIGTERM:
            return JobFailed(f"{stage}: rank {rank} was ended by {signal.Signals(int(number)).name}; {again}", "killed")
    if ended:
        return JobFailed(f"{stage}: {ended.sentence}", ended.reason)
    reason: Failure = next((reason for reason, exit_code in EXIT_CODES.items() if exit_code == code), "fault")
    sentences = [line.partition(ERROR_PREFIX)[2] for line in text.splitlines() if ERROR_PREFIX in line]
    if sentences:
        return JobFailed(f"{stage}: {sentences[0]}", reason)
    return JobFailed(
        (f"{stage}: its process exited with {code}; see its log {log}, then run the same command again to continue"),
        reason,
    )


def _ended(path: Path) -> JobExit | None:
    try:
        return JobExit.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing after a full disk or a killed process
        return None
