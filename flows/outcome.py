"""What came of a run: its artifacts, the models that gates stopped, and the report of the rest.

A gate is a Prefect task that fails where its bound is not shown to hold; Prefect then does not run what waits for it.
That is no error of the run: everything made stays sealed, the report is written, and the run ends with an exit code of
its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from conf.recipe import Recipe
from conf.report.gates import Verdict
from conf.report.report import Report
from flows.reading import Handle, Model
from flows.running import Running
from tasks.analysis import ladder
from tasks.analysis.halving import HalvingResult
from tasks.gates import GateClosed
from tasks.handover import publish as published
from tasks.launch.errors import JobFailed
from tasks.monitor import prefect_pages as seen
from tasks.report import render as page
from tasks.report.model import ReportModel, RunExtras
from tasks.report.report import write_report
from tasks.session import Session
from tasks.store.store import Artifact

Kind = TypeVar("Kind")
CLOSED = 3
"""Exit code of a run that did all it could and was stopped by a gate."""


def report(session: Session, recipe: Recipe, folder: Path, models: list[Model], run: Running) -> str | None:
    """Wait for everything, report on what came out, and fail if something did not; returns the one sentence of the
    gates that closed, if any did."""
    errors: list[str] = []
    # A search submits stages of its own until it ends, so that searches are waited for before the stages are listed.
    searches = {name: result for name, race in run.races.items() if (result := outcome(race, errors, HalvingResult))}
    made = {label: artifact for label, future in run.stages.items() if (artifact := outcome(future, errors, Artifact))}
    measured = [row for model in models if (row := _measured(model, errors))]
    for gate in run.gates:
        outcome(gate, errors, Verdict)
    verdicts, stopped = [verdict for gate in run.gates if (verdict := _verdict(gate))], stopped_by_gates(models)
    if errors:
        raise JobFailed("; ".join(dict.fromkeys(errors)))
    assert len(measured) + len(stopped) == len(models), "a stage neither ended nor failed"
    aside = {label: made[label].path for label in ("importance", "logits", "generate", "sweep") if label in made}
    extras = RunExtras(
        importance=aside.get("importance"),
        logits=aside.get("logits"),
        generated=aside.get("generate"),
        sweep=aside.get("sweep"),
        searches=searches,
        gates=tuple(verdicts),
        stopped=stopped,
        stages={label: artifact.path for label, (artifact, _) in session.stages.items()},
    )
    written = write_report(folder, session.name, recipe, measured, extras)
    ladder.link(folder, written.ladder)
    published.publish(folder, recipe, written)
    session.tracker.report(folder)
    seen.publish(session, folder, written, page.markdown(written, {}))
    return summary(written)


def _measured(model: Model, errors: list[str]) -> ReportModel | None:
    """What the report reads of a model; None where it or its scores were not made."""
    artifact, scores = outcome(model.artifact, errors, Artifact), outcome(model.scores, errors, Artifact)
    if artifact is None or scores is None:
        return None
    return ReportModel(
        model=model.name,
        stage=model.stage,
        student=model.student,
        format=model.format,
        path=f"{artifact.path}/model",
        scores=scores.path,
        training=artifact.path if model.trained else None,
    )


def outcome(future: Handle, errors: list[str], kind: type[Kind]) -> Kind | None:
    """What a future gave, or None with the one sentence of what failed; a stage that never ran for it says nothing
    new."""
    future.wait()
    if not future.state.is_final():  # Prefect's NotReady: a stage it needs has failed, or a gate has closed
        return None
    result: Any = future.result(raise_on_failure=False)
    if isinstance(result, kind):
        return result
    if not isinstance(result, GateClosed):
        errors.append(" ".join(str(result).split()) or future.state.name)
    return None


def stopped_by_gates(models: list[Model]) -> dict[str, str]:
    """Models that a gate stopped on their way, with the first of their gates that closed."""
    closed = {}
    for model in models:
        for gate in model.gates:
            verdict = _verdict(gate)
            if verdict and verdict.verdict != "passed":
                closed[model.name] = verdict.gate
                break
    return closed


def summary(report: Report) -> str | None:
    """One sentence on the gates of a report that closed, None where none did."""
    closed = [gate.sentence for gate in report.gates if gate.verdict != "passed"]
    if not closed:
        return None
    return "; ".join(closed) + (f"; not built: {', '.join(report.stopped)}" if report.stopped else "")


def _verdict(gate: Handle) -> Verdict | None:
    gate.wait()
    if not gate.state.is_final():
        return None
    outcome = gate.result(raise_on_failure=False)
    return outcome if isinstance(outcome, Verdict) else outcome.verdict if isinstance(outcome, GateClosed) else None
