"""Why a job ended without its result, as one sentence and a reason that `tasks.attempts` decides by."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Literal

from conf.spec import ENDED, ERROR_PREFIX, EXIT_CODES, JobExit, Reason

Failure = Reason | Literal["preempted", "node", "killed", "never-started"]
"""Why a job failed: its own reason, or what befell it."""


class JobFailed(RuntimeError):
    """A job ended without its result; the message is one sentence for the user."""

    def __init__(self, told: str, reason: Failure = "fault") -> None:
        super().__init__(told)
        self.reason: Failure = reason


class Stopped(RuntimeError):
    """The run is being stopped; no job is started any more."""


def failure(stage: str, code: int, log: Path, rank: int | None = None) -> JobFailed:
    """One sentence and the reason: what a rank told of itself, what ended one from outside, else the last that the log
    says. `code` is that of the job, or of its `rank` to blame."""
    ended = _ended(log.with_name(ENDED))
    if ended and ended.reason != "terminated":
        return JobFailed(f"{stage}: {ended.sentence}", ended.reason)
    text = log.read_text(errors="replace") if log.exists() else ""
    again = f"run the same command again and it continues (log: {log})"
    if code < 0:
        who = "its process" if rank is None else f"rank {rank}"
        return JobFailed(f"{stage}: {who} was ended by {signal.Signals(-code).name}; {again}", "killed")
    # torchrun's summary. A rank that is killed takes the others down with network errors, which are not the reason.
    for rank, number in re.findall(r"rank\s*: (\d+).*\n\s*exitcode\s*: -(\d+)", text):
        if int(number) != signal.SIGTERM:
            return JobFailed(f"{stage}: rank {rank} was ended by {signal.Signals(int(number)).name}; {again}", "killed")
    if ended:
        return JobFailed(f"{stage}: {ended.sentence}", ended.reason)
    reason: Failure = next((reason for reason, own in EXIT_CODES.items() if own == code), "fault")
    sentences = [line.partition(ERROR_PREFIX)[2] for line in text.splitlines() if ERROR_PREFIX in line]
    if sentences:
        return JobFailed(f"{stage}: {sentences[0]}", reason)
    return JobFailed(
        f"{stage}: its process exited with {code}; the log is {log}, and the same command continues", reason
    )


def _ended(path: Path) -> JobExit | None:
    try:
        return JobExit.model_validate_json(path.read_text())
    except (OSError, ValueError):  # not every end can be told: a full disk, a killed process
        return None
