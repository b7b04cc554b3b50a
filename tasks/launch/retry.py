"""Retry policy: retry after a time limit, a lost node or a hang; after out-of-memory retry once with a smaller
micro-batch; after training that diverged as often as its job allows.

The caller runs the job. Failed attempts are stored in the work folder, so that a stage's record includes those of
earlier commands."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conf.base import Execution, StageConfig
from conf.cluster import Cluster
from conf.files import whole_lines
from conf.secrets import masker
from conf.spec import Attempt
from conf.stages.training import Training
from tasks.launch import submission
from tasks.launch.errors import Failure, JobFailed

NOTES = "attempts.json"
"""File in the work folder with the failed attempts so far."""

NEMO = "checkpoints/logs/*/checkpoints/*"
"""Checkpoints of engine nemo's scripts, which resume from them."""

LOST: tuple[Failure, ...] = ("preempted", "node", "hang", "killed")
"""External failures of a job."""


class Attempts:
    """Attempts of one stage's job: those of earlier commands, stored in `work`, and new ones on `cluster`. `say(number,
    text)` announces a retry."""

    def __init__(
        self, kind: type[StageConfig], work: Path, cluster: Cluster, announce: Callable[[int, str], None]
    ) -> None:
        self.kind, self.work, self.cluster, self.announce = kind, work, cluster, announce
        notes = work / NOTES
        self.earlier = (
            [Attempt.model_validate(entry) for entry in json.loads(notes.read_text())] if notes.is_file() else []
        )
        self.new: list[Attempt] = []
        self._begun = time.monotonic()

    def run(self, config: StageConfig, submit: Callable[[StageConfig, Callable[[], None]], None]) -> StageConfig:
        """Run a job until it succeeds; returns the config of the last attempt. `submit(config, begin)` runs it once,
        calls `begin` when it starts, and raises JobFailed, which is re-raised if a retry would not help."""
        while True:
            self._begun, before, begin = time.monotonic(), saved(self.kind, self.work), self._begin
            if submitted := submission.read(
                str(self.work)
            ):  # a killed flow submitted this job; its time and steps count too
                self._begun -= max(0.0, time.time() - submitted.submitted)
                before, begin = submitted.step, _begun_already
            try:
                submit(config, begin)
            except JobFailed as error:
                self._note(error.reason, before, str(error))
                (self.work / NOTES).write_text(json.dumps([attempt.model_dump(mode="json") for attempt in self.all]))
                config = self._next(config, error)
                continue
            self._note("done", before, "")
            (self.work / NOTES).unlink(missing_ok=True)
            return config

    @property
    def all(self) -> tuple[Attempt, ...]:
        """All attempts, oldest first."""
        return (*self.earlier, *self.new)

    @property
    def seconds(self) -> float:
        """Total seconds of this command's attempts, without time in queues."""
        return sum(attempt.seconds for attempt in self.new)

    def _begin(self) -> None:
        self._begun = time.monotonic()

    def _note(self, reason: Any, before: int, sentence: str) -> None:
        took = round(time.monotonic() - self._begun, 3)
        steps = max(0, saved(self.kind, self.work) - before)
        self.new.append(
            Attempt(
                reason=reason, seconds=took, steps=steps, sentence=masker(os.environ)(" ".join(sentence.split()))[:500]
            )
        )

    def _next(self, config: StageConfig, error: JobFailed) -> StageConfig:
        """The config for the next attempt; raises the error if a retry would not help."""
        last, number = self.new[-1], len(self.earlier) + len(self.new) + 1
        gained = f"it gained {last.steps} steps in {last.seconds:.0f} s"
        if error.reason == "memory":
            smaller = halved(config) if not any(attempt.reason == "memory" for attempt in self.new[:-1]) else None
            if smaller is None:
                raise error
            self.announce(number, f"{error}; retrying with {difference(config, smaller)}, same global batch")
            return smaller
        if error.reason == "diverged":
            self.announce(number, str(error))
            return config
        idle = 0
        for attempt in reversed(self.new):
            if attempt.steps:
                break
            idle += 1
        again = sum(attempt.reason in ("time", *LOST) for attempt in self.new)
        if error.reason == "time" and not last.steps:
            raise JobFailed(f"{error}; {self._too_short(config)}", "time") from error
        retryable = error.reason == "time" or (
            error.reason in LOST and (error.reason != "killed" or self.cluster.kind != "local")
        )
        if not retryable:
            raise error
        if again > self.cluster.resubmissions:
            raise JobFailed(
                f"{error}; resubmitted {again - 1} times, the limit of the cluster's resubmissions",
                error.reason,
            )
        if idle > self.cluster.retries:
            raise JobFailed(
                (f"{error}; {idle} attempts in a row gained no steps, more than the cluster's retries allow"),
                error.reason,
            )
        self.announce(number, f"{error} ({error.reason}; {gained}); resubmitted")
        return config

    def _too_short(self, config: StageConfig) -> str:
        """Advice for a time limit within which the job saved nothing."""
        if config.resumes != "never" or getattr(config, "qad", None):
            return "it gained no step in that time; raise the time limit or save more often"
        return f"{self.kind.stage} cannot resume, so one attempt must finish within the limit; raise the time limit"


def _begun_already() -> None:
    """The job of a killed flow counts as running since its submission."""


def saved(kind: type[StageConfig], work: Path) -> int:
    """The step that a job would resume from: its newest checkpoint, the shards that ranks have made, or the last logged
    step if it resumes by metrics."""
    steps = [int(path.name.removeprefix("step-")) for path in work.glob("checkpoints/step-*")]
    steps += [int(found[1]) + 1 for path in work.glob(NEMO) if (found := re.search(r"-step=(\d+)-", path.name))]
    steps += [shards] if (shards := len(list(work.glob("shards/*.counts.json")))) else []
    if steps or kind.resumes != "metrics":
        return max(steps, default=0)
    return max((int(json.loads(line)["step"]) for line in whole_lines(work / "metrics.jsonl")), default=0)


def halved(config: StageConfig) -> StageConfig | None:
    """The same stage with at most half the micro-batch and, for training, recomputed activations; None if nothing can
    be lowered. Only fields that are not hashed change."""
    changes = _smaller(config)
    if isinstance(config, Training) and not config.parallel.recompute:
        changes["parallel"] = config.parallel.model_copy(update={"recompute": True})
    inner = getattr(config, "qad", None)
    if isinstance(inner, Training) and (less := _smaller(inner)):
        changes["qad"] = inner.model_copy(update=less)
    return type(config).model_validate(config.model_copy(update=changes).model_dump()) if changes else None


def difference(before: StageConfig, after: StageConfig) -> str:
    """What `halved` changed, as text."""
    changes = []
    for name in ("micro_batch", "batch"):
        old, new = getattr(before, name, None), getattr(after, name, None)
        if old != new:
            changes.append(f"{name} {new} instead of {old}")
    if isinstance(before, Training) and isinstance(after, Training) and before.parallel != after.parallel:
        changes.append("activation recomputation")
    inner = getattr(before, "qad", None)
    if isinstance(inner, Training) and inner != getattr(after, "qad", None):
        changes.append(f"qad.micro_batch {getattr(after, 'qad').micro_batch} instead of {inner.micro_batch}")  # noqa: B009
    return " and ".join(changes)


def _smaller(config: StageConfig) -> dict[str, Any]:
    """A smaller batch field that is not hashed, if there is one: the largest value that is at most half and divides the
    global batch."""
    for name in ("micro_batch", "batch"):
        field = type(config).model_fields.get(name)
        if field is None or not any(isinstance(mark, Execution) for mark in field.metadata):
            continue
        now = int(getattr(config, name))
        fits = range(now // 2, 0, -1)
        if isinstance(config, Training):
            fits = [size for size in fits if config.takes(size, config.parallel.data)]  # type: ignore[assignment]
        if fits:
            return {name: fits[0]}
    return {}
