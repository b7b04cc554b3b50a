"""A gate between two stages: a task that fails if its bound is not shown to hold."""

from __future__ import annotations

from prefect import task

from conf.gates import Gate
from conf.report.gates import Verdict
from tasks.analysis.verdicts import Scores, judge
from tasks.session import current
from tasks.stage import OPTIONS
from tasks.store.store import Artifact


class GateClosed(Exception):
    """A model failed a gate: later stages are skipped. Not an error of the run."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.sentence)
        self.verdict = verdict


@task(**OPTIONS)
def gate(
    label: str, name: str, bound: Gate, *, student: str, model: str, scores: Artifact, other: Artifact | None
) -> Verdict:
    """Check a model's sealed scores, or its judged answers to a benchmark, against a gate; raises GateClosed if it does
    not pass."""
    board = current.get().board
    board.set(label, "running")
    verdict = judge(name, bound, student, model, Scores.read(scores.path), Scores.read(other.path) if other else None)
    board.set(label, "done" if verdict.verdict == "passed" else "stopped")
    if verdict.verdict != "passed":
        raise GateClosed(verdict)
    return verdict
