"""What the pipeline asks of those who read it: a run, which makes every stage, and a plan, which looks it up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from conf.base import StageConfig
from conf.gates import Gate
from tasks.analysis.halving import HalvingProgress
from tasks.store.store import Artifact

Handle = Any
"""The future of an artifact, or the artifact."""


@dataclass(kw_only=True)
class Model:
    """A row of the report: its name, the stage that made it, its artifact, the gates it waited for, its scores."""

    name: str
    stage: str
    artifact: Handle
    student: str | None = None
    cut: int = -1
    format: str | None = None
    trained: bool = False
    gates: tuple[Handle, ...] = ()
    scores: Handle | None = None


Score = Callable[[Model], Handle]
Play = Callable[[Artifact], HalvingProgress]


class Stages(Protocol):
    """One reading of the pipeline."""

    def __call__(
        self,
        label: str,
        config: StageConfig,
        *,
        of: str | None = None,
        cut: int = -1,
        after: tuple[Handle, ...] = (),
        **inputs: Handle | None,
    ) -> Handle:
        """A stage, from inputs by role; those that are None are left out. It starts once the gates `after` which it
        comes are open. It works on a student, `of`, after so many of its cuts, or candidates: an index, -1 for all."""

    def gate(self, name: str, gate: Gate, model: Model, against: Model | None, score: Score) -> Handle | None:
        """A gate that judges `model`, alone or against another."""

    def race(self, student: str, found: Handle, play: Play) -> tuple[Handle, Handle]:
        """Candidates that a search has found, played off against each other: the winner's cut, and its last model."""

    def artifacts(self, handles: list[Handle]) -> list[Artifact]:
        """The artifacts behind handles: a run waits for them, a plan knows what they will be called."""

    def known(self, handles: list[Handle]) -> bool:
        """Whether what these hold can be read: in a run it can, in a plan where they are in the store."""
