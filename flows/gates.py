"""The gates of a run: which models they judge, what waits for them, and what was not made because of them.

A gate is a Prefect task that fails where its bound is not shown to hold; Prefect then does not run what waits for it.
That is no error of the run: everything made stays sealed, the report is written, and the run ends with an exit code of
its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conf.recipe import Recipe
from flows.model import Future, Made
from tasks.analysis.verdicts import Verdict
from tasks.gates import GateClosed, gate

CLOSED = 3
"""Exit code of a run that did all it could and was stopped by a gate."""


class Gates:
    """Submits the gates of a recipe. `score` submits the evaluation of a model, once, and returns its future."""

    def __init__(self, recipe: Recipe, teacher: Made, score: Callable[[Made], Future]) -> None:
        self.recipe, self.teacher, self.score = recipe, teacher, score
        self._all: list[Future] = []

    def after(self, made: Made, before: Made | None = None) -> tuple[Future, ...]:
        """What the stages after `made` wait for: the gates that it waited for itself, and those set on it, whose
        evaluation then comes first. `before` is the student as it was before this stage."""
        assert made.student is not None, "no gate stands after the teacher"
        mine = []
        for name, bound in self.recipe.gates_of(made.student).items():
            if bound.after != made.stage:
                continue
            assert bound.against != "before" or before, "conf refuses such a gate after prune"
            against = {"teacher": self.teacher, "before": before}.get(bound.against)
            mine.append(
                gate.submit(
                    f"gate-{made.model}-{name}",
                    name,
                    bound,
                    student=made.student,
                    model=made.model,
                    scores=self.score(made),
                    other=self.score(against) if against else None,
                )
            )
        self._all += mine
        return (*made.gates, *mine)

    def verdicts(self) -> list[Verdict]:
        """Of every gate that could be judged, in the order they were set."""
        return [verdict for future in self._all if (verdict := _verdict(future))]

    def errors(self) -> list[str]:
        """What went wrong in a gate itself."""
        outcomes: list[Any] = [future.result(raise_on_failure=False) for future in self._all if future.state.is_final()]
        return [str(outcome) for outcome in outcomes if not isinstance(outcome, (Verdict, GateClosed))]


def unmade(models: list[Made]) -> dict[str, str]:
    """Models that a gate stopped on their way, with the first of their gates that closed."""
    closed = {}
    for made in models:
        for future in made.gates:
            verdict = _verdict(future)
            if verdict and verdict.verdict != "passed":
                closed[made.model] = verdict.gate
                break
    return closed


def summary(gates: list[dict[str, Any]], stopped: dict[str, str]) -> str | None:
    """One sentence on the gates of a report that closed, None where none did."""
    closed = [entry["sentence"] for entry in gates if entry["verdict"] != "passed"]
    if not closed:
        return None
    return "; ".join(closed) + (f"; not made: {', '.join(stopped)}" if stopped else "")


def _verdict(future: Future) -> Verdict | None:
    future.wait()
    if not future.state.is_final():
        return None
    outcome = future.result(raise_on_failure=False)
    return outcome if isinstance(outcome, Verdict) else outcome.verdict if isinstance(outcome, GateClosed) else None
