"""The interface between the pipeline and its readers: a run submits every stage, a plan looks it up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from conf.base import StageConfig
from conf.gates import Gate
from tasks.analysis.halving import HalvingProgress
from tasks.store.store import Artifact

Handle = Any
"""The future of an artifact (run) or the artifact (plan)."""


@dataclass(kw_only=True)
class Model:
    """A row of the report: the model's name, the stage that made it, its artifact, the gates it waits for, its
    scores, its scores on each benchmark and its losses in an engine."""

    name: str
    stage: str
    artifact: Handle
    student: str | None = None
    cut: int = -1
    format: str | None = None
    trained: bool = False
    gates: tuple[Handle, ...] = ()
    scores: Handle | None = None
    judged: dict[str, Handle] = field(default_factory=dict)
    verified: Handle | None = None

    def measured(self, metric: str) -> Handle:
        """Where a metric of the model is: the judgement of the benchmark that it names, else its scores."""
        return self.judged.get(metric, self.scores)


Score = Callable[[Model], Handle]
Play = Callable[[Artifact], HalvingProgress]


class Stages(Protocol):
    """A reader of the pipeline."""

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
        """A stage with inputs by role; inputs that are None are omitted. It starts when the gates in `after` have
        passed. `of` is its student and `cut` the index of the student's cut or candidate, -1 for the last."""

    def gate(self, name: str, gate: Gate, model: Model, against: Model | None, score: Score) -> Handle | None:
        """A gate on `model`, alone or compared with `against`."""

    def race(self, student: str, found: Handle, play: Play) -> tuple[Handle, Handle]:
        """Successive halving of the candidates of a search: the winner's pruned model and its last model."""

    def artifacts(self, handles: list[Handle]) -> list[Artifact]:
        """The artifacts of handles; a run waits for them, a plan has their keys."""

    def known(self, handles: list[Handle]) -> bool:
        """Whether the contents can be read: always in a run, in a plan if they are in the store."""
