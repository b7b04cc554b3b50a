"""Whether a job that failed is tried again: its time was up, its node was lost, it hung, or memory ran out, which a
smaller pass may mend.

It decides and keeps count; how a job is run, its caller says. What was tried is noted in the work folder, so that the
record of a stage also tells of attempts that an earlier command made."""

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
"""In the work folder: the attempts that failed so far."""

NEMO = "checkpoints/logs/*/checkpoints/*"
"""Where the scripts of engine nemo save, from which they go on by themselves."""

LOST: tuple[Failure, ...] = ("preempted", "node", "hang", "killed")
"""What befalls a job, and is no fault of its own."""


class Attempts:
    """The attempts of one stage's job: those of earlier commands in `work`, and those this one makes on `cluster`."""

    def __init__(self, kind: type[StageConfig], work: Path, cluster: Cluster, say: Callable[[int, str], None]) -> None:
        self.kind, self.work, self.cluster, self.say = kind, work, cluster, say
        notes = work / NOTES
        self.earlier = (
            [Attempt.model_validate(entry) for entry in json.loads(notes.read_text())] if notes.is_file() else []
        )
        self.made: list[Attempt] = []
        self._begun = time.monotonic()

    def run(self, config: StageConfig, submit: Callable[[StageConfig, Callable[[], None]], None]) -> StageConfig:
        """Run a job until it is done; returns the config it was done with. `submit(config, begin)` runs it once: it
        calls `begin` when the job starts and raises JobFailed, which is raised again where another attempt would not
        help."""
        while True:
            self._begun, before, begin = time.monotonic(), saved(self.kind, self.work), self._begin
            if known := submission.read(
                str(self.work)
            ):  # a killed flow left this job; what it took and gained since counts too
                self._begun -= max(0.0, time.time() - known.submitted)
                before, begin = known.step, _begun_already
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
        """Every attempt, the earliest first."""
        return (*self.earlier, *self.made)

    @property
    def seconds(self) -> float:
        """What the attempts of this command took together, without waiting for their start."""
        return sum(attempt.seconds for attempt in self.made)

    def _begin(self) -> None:
        self._begun = time.monotonic()

    def _note(self, reason: Any, before: int, sentence: str) -> None:
        took = round(time.monotonic() - self._begun, 3)
        steps = max(0, saved(self.kind, self.work) - before)
        self.made.append(
            Attempt(
                reason=reason, seconds=took, steps=steps, sentence=masker(os.environ)(" ".join(sentence.split()))[:500]
            )
        )

    def _next(self, config: StageConfig, error: JobFailed) -> StageConfig:
        """The config to try with next, or the error where that is of no use."""
        last, number = self.made[-1], len(self.earlier) + len(self.made) + 1
        gained = f"it gained {last.steps} steps in {last.seconds:.0f} s"
        if error.reason == "memory":
            smaller = halved(config) if not any(attempt.reason == "memory" for attempt in self.made[:-1]) else None
            if smaller is None:
                raise error
            self.say(number, f"{error}; once more with {difference(config, smaller)}, the global batch as before")
            return smaller
        idle = 0
        for attempt in reversed(self.made):
            if attempt.steps:
                break
            idle += 1
        again = sum(attempt.reason in ("time", *LOST) for attempt in self.made)
        if error.reason == "time" and not last.steps:
            raise JobFailed(f"{error}; {self._too_short(config)}", "time") from error
        may = error.reason == "time" or (
            error.reason in LOST and (error.reason != "killed" or self.cluster.kind != "local")
        )
        if not may:
            raise error
        if again > self.cluster.resubmissions:
            raise JobFailed(
                f"{error}; submitted again {again - 1} times, as often as the cluster's resubmissions allow",
                error.reason,
            )
        if idle > self.cluster.retries:
            raise JobFailed(
                f"{error}; {idle} attempts in a row gained nothing, more than the cluster's retries allow", error.reason
            )
        self.say(number, f"{error} ({error.reason}; {gained}); submitted again")
        return config

    def _too_short(self, config: StageConfig) -> str:
        """What to do about a time limit within which the job saved nothing."""
        if config.resumes != "never" or getattr(config, "qad", None):
            return "it gained no step in that time: give it more, or save oftener"
        return f"{self.kind.stage} saves nothing on its way, so one attempt must have time for all of it: give it more"


def _begun_already() -> None:
    """A job that is found runs since it was submitted, as far as anybody knows."""


def saved(kind: type[StageConfig], work: Path) -> int:
    """The step a job would go on from: of its newest checkpoint, or the last it logged where it keeps what it has
    done."""
    steps = [int(path.name.removeprefix("step-")) for path in work.glob("checkpoints/step-*")]
    steps += [int(found[1]) + 1 for path in work.glob(NEMO) if (found := re.search(r"-step=(\d+)-", path.name))]
    if steps or kind.resumes != "metrics":
        return max(steps, default=0)
    return max((int(json.loads(line)["step"]) for line in whole_lines(work / "metrics.jsonl")), default=0)


def halved(config: StageConfig) -> StageConfig | None:
    """The same stage with half the sequences in a pass and, where it trains, activations computed again; None where
    there is nothing left to lower. Only what is not hashed changes."""
    changes = _smaller(config)
    if isinstance(config, Training) and not config.parallel.recompute:
        changes["parallel"] = config.parallel.model_copy(update={"recompute": True})
    inner = getattr(config, "qad", None)
    if isinstance(inner, Training) and (less := _smaller(inner)):
        changes["qad"] = inner.model_copy(update=less)
    return type(config).model_validate(config.model_copy(update=changes).model_dump()) if changes else None


def difference(before: StageConfig, after: StageConfig) -> str:
    """What `halved` changed, for people."""
    told = []
    for name in ("micro_batch", "batch"):
        old, new = getattr(before, name, None), getattr(after, name, None)
        if old != new:
            told.append(f"{name} {new} in place of {old}")
    if isinstance(before, Training) and isinstance(after, Training) and before.parallel != after.parallel:
        told.append("activations computed again in the backward pass")
    inner = getattr(before, "qad", None)
    if isinstance(inner, Training) and inner != getattr(after, "qad", None):
        told.append(f"qad.micro_batch {getattr(after, 'qad').micro_batch} in place of {inner.micro_batch}")  # noqa: B009
    return " and ".join(told)


def _smaller(config: StageConfig) -> dict[str, Any]:
    """A smaller pass, where the config has one that is not hashed: the largest that is at most half and still divides
    the global batch."""
    for name in ("micro_batch", "batch"):
        field = type(config).model_fields.get(name)
        if field is None or not any(isinstance(mark, Execution) for mark in field.metadata):
            continue
        now = int(getattr(config, name))
        fits = range(now // 2, 0, -1)
        if isinstance(config, Training):
            fits = [size for size in fits if config.global_batch % (size * config.parallel.data) == 0]  # type: ignore[assignment]
        if fits:
            return {name: fits[0]}
    return {}
