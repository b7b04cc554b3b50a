"""The pipeline, top to bottom: data -> teacher -> importance and records -> students -> formats -> scores -> report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from prefect import flow
from prefect.states import Completed

from conf.base import RunName, StoreFolder, run_name
from conf.cluster import Cluster
from conf.load import checked
from conf.placement import placed
from conf.recipe import Recipe
from flows import corpus as text
from flows import formats, students
from flows.gates import Gates, summary, unmade
from flows.inputs import resolve
from flows.model import Future, Made
from flows.plan import plan
from flows.session import Where, found, opened, tags_of
from flows.sft import Tuning, prepare
from flows.sizing import check_fits
from tasks import hub
from tasks.analysis import ladder
from tasks.analysis.halving import Played
from tasks.handover import publish as published
from tasks.inputs import Outside
from tasks.launch.errors import JobFailed
from tasks.monitor import prefect_pages as seen
from tasks.report import render as page
from tasks.report.model import Beside, Measured
from tasks.report.report import write_report
from tasks.session import Session
from tasks.stages.distill import distill
from tasks.stages.evaluate import evaluate
from tasks.stages.importance import importance
from tasks.stages.logits import logits
from tasks.stages.options import THREADS
from tasks.stages.sweep import sweep
from tasks.stages.teacher import teacher
from tasks.store.store import Artifact

Kind = TypeVar("Kind")


@flow(
    name="compress",
    flow_run_name="{name}",
    task_runner=THREADS,
    persist_result=False,
    validate_parameters=False,  # `checked` does it, in the sentences of the command line
)
def compress(*, name: RunName = "run", cluster: Where = "local", store: StoreFolder = ".imbik", recipe: Recipe) -> str:
    """Run a recipe on a cluster and write its report; returns the folder `<store>/runs/<name>`. What is in the store
    already is not made again.

    Args:
        name: Name of the run, a folder under the store's runs/.
        cluster: Where to run: local, docker, slurm, kubernetes, or a YAML file there.
        store: Folder of all artifacts, as the worker sees it.
        recipe: A whole run: one corpus, one teacher, its students, their formats, one report.
    """
    try:
        where = found(cluster)
        seen.tag(*tags_of(cluster))
        return _compress(placed(checked(recipe), where), run_name(name), Path(store), where)
    except (ValueError, JobFailed) as error:
        return seen.failed(error)


def _compress(recipe: Recipe, name: str, store: Path, cluster: Cluster) -> str:
    with opened(name, store, recipe.model_dump(mode="json"), cluster) as session:
        seen.tag(f"model:{model_name(recipe)}")
        recipe = hub.settled(recipe, session.store)
        stages = plan(recipe, session.store.root)
        check_fits(recipe, cluster, stages)
        if not all(stage.cached for stage in stages):
            session.launcher.prepare()
        outside = resolve(recipe, session)
        shared = _shared(recipe, outside)
        original, corpus = shared.teacher, shared.corpus
        models = [
            Made(model="teacher", stage="teacher", artifact=original, curves=original if recipe.teacher.steps else None)
        ]
        models += [shared.tuning.tuned_teacher] if shared.tuning.tuned_teacher else []

        def score(made: Made) -> Future:
            made.scores = made.scores or evaluate.submit(
                f"evaluate-{made.model}",
                recipe.evaluate,
                model=made.artifact,
                teacher=original,
                data=corpus,
                mmlu=outside.mmlu,
                records=shared.tuning.records,
            )
            return made.scores

        gates, played = Gates(recipe, models[0], score), dict[str, Future]()
        for student_name in recipe.students:
            shaped = students.shape(
                recipe, student_name, original, shared.importance, corpus, shared.logits, shared.mmlu
            )
            models += _student(recipe, student_name, shaped, shared, gates)
            played |= {student_name: shaped.played} if shaped.played else {}
        for made in models:
            score(made)
        folder = session.store.root / "runs" / name
        closed = _finish(session, recipe, folder, models, shared, played, gates)
        if not closed:
            return seen.ended(str(folder), session)
    return cast(str, Completed(name="Stopped by a gate", message=closed, data=str(folder)))


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all students of a run share; None where no student needs it."""

    corpus: Future
    teacher: Future
    importance: Future | None
    sweep: Future | None
    logits: Future | None
    tuning: Tuning
    mmlu: Artifact | None


def _shared(recipe: Recipe, outside: Outside) -> Shared:
    """The stages all students start from."""
    corpus = text.corpus(recipe, outside)
    original: Future = teacher.submit("teacher", recipe.original, data=corpus, model=outside.model)
    scored: Future | None = None
    if recipe.ranked:
        scored = importance.submit("importance", recipe.importance, teacher=original, data=corpus)
    swept: Future | None = None
    if recipe.sweep and scored:
        swept = sweep.submit("sweep", recipe.sweep, teacher=original, data=corpus, importance=scored)
    stored: Future | None = None
    if recipe.logits and recipe.stores_logits:
        stored = logits.submit("logits", recipe.logits, teacher=original, data=corpus)
    tuning = prepare(recipe, outside, corpus, original)
    return Shared(
        corpus=corpus, teacher=original, importance=scored, sweep=swept, logits=stored, tuning=tuning, mmlu=outside.mmlu
    )


def _student(recipe: Recipe, name: str, shaped: students.Shaped, shared: Shared, gates: Gates) -> list[Made]:
    """Teach and quantize one student, each stage behind the gates of those before it; the models it leaves on the
    way."""
    how, pruned = (
        recipe.distill_of(name),
        Made(model=f"{name}-pruned", stage="prune", artifact=shaped.pruned, student=name),
    )
    made = [*shaped.earlier, pruned]
    behind = gates.after(pruned)
    if how:
        taught: Future = distill.submit(
            f"distill-{name}",
            how,
            teacher=shaped.teacher,
            student=shaped.start,
            data=shared.corpus,
            logits=shared.logits if how.offline else None,
            mmlu=shared.mmlu,
            wait_for=behind,
            return_state=False,
        )
        made.append(Made(model=name, stage="distill", artifact=taught, curves=taught, student=name, gates=behind))
        behind = gates.after(made[-1], pruned)
    if tuned := shared.tuning.student(name, made[-1], behind):
        made.append(tuned)
        behind = gates.after(made[-1], made[-2])
    made += formats.make(recipe, name, made[-1], shared.corpus, behind, gates)
    return made


def _finish(
    session: Session,
    recipe: Recipe,
    folder: Path,
    models: list[Made],
    shared: Shared,
    played: dict[str, Future],
    gates: Gates,
) -> str | None:
    """Wait for everything, `shared` stages and searches first, report on what came out, and fail if something did not;
    returns the one sentence of the gates that closed, if any did."""
    measured: list[Measured] = []
    errors: list[str] = []
    first = (
        shared.corpus,
        shared.importance,
        shared.sweep,
        shared.logits,
        shared.tuning.records,
        shared.tuning.generated,
    )
    aside = {
        artifact.stage: artifact.path for future in first if future and (artifact := _result(future, errors, Artifact))
    }
    searches = {name: outcome for name, future in played.items() if (outcome := _result(future, errors, Played))}
    for made in models:
        artifact, scores = _result(made.artifact, errors, Artifact), _result(made.scores, errors, Artifact)
        if artifact is None or scores is None:
            continue
        measured.append(
            Measured(
                model=made.model,
                stage=made.stage,
                student=made.student,
                format=made.form,
                path=f"{artifact.path}/model",
                scores=scores.path,
                training=artifact.path if made.curves else None,
            )
        )
    verdicts, stopped = gates.verdicts(), unmade(models)
    errors += gates.errors()
    if errors:
        raise JobFailed("; ".join(dict.fromkeys(errors)))
    assert len(measured) + len(stopped) == len(models), "a stage neither ended nor failed"
    beside = Beside(
        importance=aside.get("importance"),
        logits=aside.get("logits"),
        generated=aside.get("generate"),
        sweep=aside.get("sweep"),
        searches=searches,
        gates=tuple(verdicts),
        stopped=stopped,
        stages={label: artifact.path for label, (artifact, _) in session.stages.items()},
    )
    report = write_report(folder, session.name, recipe, measured, beside)
    ladder.link(folder, report["ladder"])
    published.publish(folder, recipe, report)
    session.tracker.report(folder)
    seen.publish(session, folder, report, page.markdown(report, {}))
    return summary(report["gates"], report["stopped"])


def _result(future: Future | None, errors: list[str], kind: type[Kind]) -> Kind | None:
    """What a future gave, or None with the one sentence of what failed; a stage that never ran for it says nothing
    new."""
    assert future is not None
    future.wait()
    if not future.state.is_final():  # Prefect's NotReady: a stage it needs has failed
        return None
    outcome: Any = future.result(raise_on_failure=False)
    if isinstance(outcome, kind):
        return outcome
    errors.append(" ".join(str(outcome).split()) or future.state.name)
    return None


def model_name(recipe: Recipe) -> str:
    """The teacher's name for people: its folder or hub id, or that it is made here."""
    model = recipe.teacher.model
    return "from-scratch" if model is None else Path(model).name or model
