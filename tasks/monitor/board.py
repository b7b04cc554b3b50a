"""Progress of each stage of the running flow; written by tasks, read by the command line."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Literal

State = Literal["waiting", "running", "cached", "done", "failed", "stopped"]


@dataclass(frozen=True)
class Progress:
    """Progress of one stage: `step` of `total`, latest metric values, start and end (monotonic seconds), and in `note`
    where its job waits or runs."""

    state: State = "waiting"
    step: int = 0
    total: int | None = None
    values: dict[str, float] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    first_step: tuple[int, float] | None = None
    note: str = ""

    @property
    def rate(self) -> float | None:
        """Steps per second since the first reported step; None before the second."""
        if not self.first_step or self.ended or self.step <= self.first_step[0]:
            return None
        return (self.step - self.first_step[0]) / max(time.monotonic() - self.first_step[1], 1e-9)

    @property
    def paced(self) -> int:
        """Steps since the first reported one."""
        return self.step - self.first_step[0] if self.first_step else 0

    @property
    def seconds_left(self) -> float | None:
        """Time that the remaining steps take at this rate; None if unknown."""
        return (self.total - self.step) / self.rate if self.rate and self.total else None


class Board:
    """Progress by stage label; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, Progress] = {}

    def set(self, label: str, state: State) -> None:
        """Set the state of a stage."""
        now = time.monotonic()
        with self._lock:
            before = self._stages.get(label, Progress())
            started = now if state == "running" else before.started
            ended = now if state in ("cached", "done", "failed", "stopped") else None
            self._stages[label] = replace(before, state=state, started=started, ended=ended)

    def expect(self, label: str) -> None:
        """Add a stage that waits for others, unless it is there."""
        with self._lock:
            self._stages.setdefault(label, Progress())

    def step(self, label: str, step: int, total: int | None, values: dict[str, float]) -> None:
        """Record a step of a stage's job."""
        with self._lock:
            before = self._stages.get(label, Progress(state="running"))
            first = before.first_step or (step, time.monotonic())
            self._stages[label] = replace(
                before, step=step, total=total, values=before.values | values, first_step=first
            )

    def note(self, label: str, text: str) -> None:
        """Record where a stage's job is: its place in a queue, its nodes."""
        with self._lock:
            self._stages[label] = replace(self._stages.get(label, Progress()), note=text)

    def snapshot(self) -> dict[str, Progress]:
        """All stages in the order of their first update."""
        with self._lock:
            return dict(self._stages)
