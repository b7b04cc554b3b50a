"""The pipeline, top to bottom: data -> teacher -> importance -> students -> formats -> scores -> report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from conf.base import RunName
from conf.schema import Recipe
from flows.plan import plan
from tasks import external
from tasks.data import data
from tasks.distill import distill
from tasks.evaluate import evaluate
from tasks.importance import importance
from tasks.launch import JobFailed, Launcher
from tasks.progress import Board
from tasks.prune import prune
from tasks.quantize import quantize
from tasks.report import Measured, publish, write_report
from tasks.session import Session, current
from tasks.store import Artifact, Store
from tasks.teacher import teacher
from tasks.tracking import Tracker

Future = Any
"""A PrefectFuture[Artifact]. Prefect types `submit` by what the task takes, not by the futures that stand in for it."""

RUNNER: Any = ThreadPoolTaskRunner(max_workers=64)  # threads only wait; the launcher counts cores


@flow(
    name="compress",
    flow_run_name="{name}",
    task_runner=RUNNER,
    persist_result=False,
    validate_parameters=True,
)
def compress(recipe: Recipe, name: RunName = "run", store: str = ".imbik") -> str:
    """Run a recipe and write its report; returns the folder `<store>/runs/<name>`. What is in the store already is not made again."""
    with _session(recipe, name, Path(store)) as session:
        outside = external.resolve(recipe, session)
        corpus: Future = data.submit("data", recipe.data, source=outside.source, tokenizer=outside.tokenizer)
        original: Future = teacher.submit("teacher", recipe.teacher, data=corpus, model=outside.model)
        scored: Future | None = None
        if any(student.prune.ranked for student in recipe.students.values()):
            scored = importance.submit("importance", recipe.importance, teacher=original, data=corpus)
        models = [_Made("teacher", "teacher", original, curves=original if recipe.teacher.steps else None)]
        for student_name in recipe.students:
            models += _student(recipe, student_name, original, scored, corpus)
        for made in models:
            made.scores = evaluate.submit(
                f"evaluate-{made.model}", recipe.evaluate, model=made.artifact, teacher=original, data=corpus, mmlu=outside.mmlu
            )
        folder = session.store.root / "runs" / name
        _finish(session, recipe, folder, models, [corpus, scored] if scored else [corpus])
    return str(folder)


class _Made:
    """A model of the run on its way: its row name, and the futures of its artifact, scores and training curve."""

    def __init__(
        self,
        model: str,
        stage: str,
        artifact: Future,
        *,
        curves: Future | None = None,
        student: str | None = None,
        form: str | None = None,
    ) -> None:
        self.model, self.stage, self.artifact, self.curves = model, stage, artifact, curves
        self.student, self.form = student, form
        self.scores: Future | None = None


def _student(recipe: Recipe, name: str, original: Future, scored: Future | None, corpus: Future) -> list[_Made]:
    """Prune, teach and quantize one student; the models it leaves on the way."""
    student = recipe.students[name]
    used = scored if student.prune.ranked else None
    pruned: Future = prune.submit(f"prune-{name}", student.prune, teacher=original, data=corpus, importance=used)
    how, taught = recipe.distill_of(name), pruned
    made = [_Made(f"{name}-pruned", "prune", pruned, student=name)]
    if how:
        taught = distill.submit(f"distill-{name}", how, teacher=original, student=pruned, data=corpus)
        made.append(_Made(name, "distill", taught, curves=taught, student=name))
    for config in recipe.formats_of(name):
        smaller: Future = quantize.submit(f"quantize-{name}-{config.format}", config, model=taught, data=corpus)
        made.append(_Made(f"{name}-{config.format}", "quantize", smaller, student=name, form=config.format))
    return made


def _finish(session: Session, recipe: Recipe, folder: Path, models: list[_Made], shared: list[Future]) -> None:
    """Wait for everything, `shared` stages first, report on what came out, and fail if something did not."""
    measured: list[Measured] = []
    errors: list[str] = []
    ranked = [artifact for future in shared if (artifact := _result(future, errors)) and artifact.stage == "importance"]
    for made in models:
        artifact, scores = _result(made.artifact, errors), _result(made.scores, errors)
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
    if errors:
        raise JobFailed("; ".join(dict.fromkeys(errors)))
    assert len(measured) == len(models), "a stage neither ended nor failed"
    report = write_report(folder, session.name, recipe, measured, ranked[0].path if ranked else None)
    session.tracker.report(folder)
    publish(report)


def _result(future: Future | None, errors: list[str]) -> Artifact | None:
    """A future's artifact, or None with the one sentence of what failed; a stage that never ran for it says nothing new."""
    assert future is not None
    future.wait()
    if not future.state.is_final():  # Prefect's NotReady: a stage it needs has failed
        return None
    outcome: Any = future.result(raise_on_failure=False)
    if isinstance(outcome, Artifact):
        return outcome
    errors.append(" ".join(str(outcome).split()) or future.state.name)
    return None


@contextlib.contextmanager
def _session(recipe: Recipe, name: str, root: Path) -> Iterator[Session]:
    """Everything the tasks share, closed whatever happens: no process of the run outlives it."""
    store = Store(root)
    store.create()
    launcher, failed = Launcher(), True
    tracker = Tracker(store.root, name, recipe.model_dump(mode="json"))
    session = Session(name=name, store=store, launcher=launcher, board=board(), tracker=tracker)
    token = current.set(session)
    try:
        if not all(stage.cached for stage in plan(recipe, store.root)):
            launcher.prepare()
        yield session
        failed = False
    finally:
        current.reset(token)
        launcher.stop()
        if complaint := tracker.close(failed=failed):
            print(complaint)


_board: Board | None = None


def board() -> Board:
    """The progress board of the flow this process runs; whoever shows it asks before the flow starts."""
    global _board
    _board = _board or Board()
    return _board
