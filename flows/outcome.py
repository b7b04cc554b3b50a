"""The outcome of a run: its artifacts, the models stopped by gates, and the report of the others.

A gate is a Prefect task that fails if its bound is not shown to hold; Prefect then skips the tasks that wait for it.
This is not an error: artifacts stay sealed, the report is written, and the run has its own exit code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from conf.recipe import Recipe
from conf.report.gates import Verdict
from conf.report.report import Report
from flows.reading import Handle, Model
from flows.running import Running
from flows.started import command, machine
from tasks.analysis import ladder
from tasks.analysis.halving import HalvingResult
from tasks.gates import GateClosed
from tasks.handover import publish
from tasks.launch.errors import Failure, JobFailed
from tasks.monitor import prefect_pages
from tasks.report import render as page
from tasks.report import run_info
from tasks.report.model import ReportModel, RunExtras
from tasks.report.report import write_report
from tasks.report.run_info import RECIPE
from tasks.session import Session
from tasks.store.store import Artifact

Kind = TypeVar("Kind")
CLOSED = 3
"""Exit code of a run in which a gate stopped a student."""


def report(session: Session, recipe: Recipe, folder: Path, models: list[Model], run: Running) -> str | None:
    """Wait for all stages and write the report. Raises JobFailed if a stage failed; returns one sentence about failed
    gates, or None."""
    errors: list[str] = []
    # A search submits stages until it ends: wait for searches before listing the stages.
    searches = {name: result for name, race in run.races.items() if (result := outcome(race, errors, HalvingResult))}
    artifacts = {
        label: artifact for label, future in run.stages.items() if (artifact := outcome(future, errors, Artifact))
    }
    measured = [row for model in models if (row := _measured(model, errors))]
    for gate in run.gates:
        outcome(gate, errors, Verdict)
    verdicts, stopped = [verdict for gate in run.gates if (verdict := _verdict(gate))], stopped_by_gates(models)
    if errors:
        raise JobFailed("; ".join(dict.fromkeys(errors)), _reason(run))
    assert len(measured) + len(stopped) == len(models), "a stage neither ended nor failed"
    reported = ("importance", "logits", "generate", "sweep", "contamination")
    paths = {label: artifacts[label].path for label in reported if label in artifacts}
    extras = RunExtras(
        importance=paths.get("importance"),
        logits=paths.get("logits"),
        generated=paths.get("generate"),
        sweep=paths.get("sweep"),
        contamination=paths.get("contamination"),
        searches=searches,
        gates=tuple(verdicts),
        stopped=stopped,
        stages={label: artifact.path for label, (artifact, _) in session.stages.items()},
        run=run_info.describe(session, command(), machine(), _teacher(recipe), _sources(recipe)),
    )
    settings = recipe.model_dump(mode="json")
    run_info.keep(folder, RECIPE, settings, session.cluster, command(), ended=True)
    written = write_report(folder, session.name, recipe, measured, extras)
    ladder.link(folder, written.ladder)
    publish.publish(folder, recipe, written)
    session.tracker.report(folder)
    prefect_pages.publish(session, folder, written, page.markdown(written, {}), page.cells(written.rows))
    return summary(written)


def _teacher(recipe: Recipe) -> str:
    return recipe.teacher.model or "trained from scratch"


def _sources(recipe: Recipe) -> tuple[str, ...]:
    """Sources of the corpora of a recipe."""
    corpora = [
        recipe.data.source,
        *(corpus.source for corpus in (recipe.blend.sources if recipe.blend else {}).values()),
    ]
    return tuple(source for corpus in corpora for source in ((corpus,) if isinstance(corpus, str) else corpus))


def _reason(run: Running) -> Failure:
    """Why a run failed: mistake if that is why each of its failed stages did."""
    ended = (future.result(raise_on_failure=False) for future in run.stages.values() if future.state.is_final())
    reasons = {error.reason if isinstance(error, JobFailed) else "fault" for error in ended if _failed(error)}
    return "mistake" if reasons == {"mistake"} else "fault"


def _failed(result: Any) -> bool:
    return isinstance(result, Exception) and not isinstance(result, GateClosed)


def _measured(model: Model, errors: list[str]) -> ReportModel | None:
    """A model's entry for the report; None if the model or its scores are missing."""
    artifact, scores = outcome(model.artifact, errors, Artifact), outcome(model.scores, errors, Artifact)
    verified = outcome(model.verified, errors, Artifact) if model.verified else None
    judged = {name: outcome(handle, errors, Artifact) for name, handle in model.judged.items()}
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
        benchmarks={name: one.path for name, one in judged.items() if one},
        verified=verified.path if verified else None,
    )


def outcome(future: Handle, errors: list[str], kind: type[Kind]) -> Kind | None:
    """The result of a future; None if it failed (its message is added to `errors`) or never ran."""
    future.wait()
    if not future.state.is_final():  # Prefect's NotReady: an upstream stage or gate failed
        return None
    result: Any = future.result(raise_on_failure=False)
    if isinstance(result, kind):
        return result
    if not isinstance(result, GateClosed):
        errors.append(" ".join(str(result).split()) or future.state.name)
    return None


def stopped_by_gates(models: list[Model]) -> dict[str, str]:
    """Models stopped by a gate, with the first gate that failed."""
    closed = {}
    for model in models:
        for gate in model.gates:
            verdict = _verdict(gate)
            if verdict and verdict.verdict != "passed":
                closed[model.name] = verdict.gate
                break
    return closed


def summary(report: Report) -> str | None:
    """One sentence about the failed gates of a report; None if all passed."""
    closed = [gate.sentence for gate in report.gates if gate.verdict != "passed"]
    if not closed:
        return None
    return "; ".join(closed) + (f"; skipped models: {', '.join(report.stopped)}" if report.stopped else "")


def _verdict(gate: Handle) -> Verdict | None:
    gate.wait()
    if not gate.state.is_final():
        return None
    outcome = gate.result(raise_on_failure=False)
    return outcome if isinstance(outcome, Verdict) else outcome.verdict if isinstance(outcome, GateClosed) else None
