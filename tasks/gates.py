"""A gate between two stages: a task that fails with one sentence where the bound is not shown to hold."""

from __future__ import annotations

from prefect import task

from conf.gates import Gate
from conf.report.gates import Verdict
from tasks.analysis.verdicts import Scores, judge
from tasks.session import current
from tasks.stage import OPTIONS
from tasks.store.store import Artifact


class GateClosed(Exception):
    """A model does not meet a bound: later stages do not run, and this is not an error."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.sentence)
        self.verdict = verdict


@task(**OPTIONS)
def gate(
    label: str, name: str, bound: Gate, *, student: str, model: str, scores: Artifact, other: Artifact | None
) -> Verdict:
    """Judge a model by its sealed scores; raises GateClosed where the verdict is not `passed`."""
    board = current.get().board
    board.set(label, "running")
    verdict = judge(name, bound, student, model, Scores.read(scores.path), Scores.read(other.path) if other else None)
    board.set(label, "done" if verdict.verdict == "passed" else "stopped")
    if verdict.verdict != "passed":
        raise GateClosed(verdict)
    return verdict
