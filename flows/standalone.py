"""Shared code of the single-stage flows: session, models, evaluation, report and final state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from conf.base import run_name
from conf.cluster import Cluster
from conf.fitted import evaluated
from conf.hf_model import read_json
from conf.placement import place_settings_on_cluster
from conf.report.report import Report
from conf.report.run import RunInfo
from conf.stages.data import DataConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.teacher import TeacherConfig
from flows import benchmarks, engines
from flows.inputs import model_of
from flows.reading import Handle, Model
from flows.running import Running
from flows.session import Where, open_session, resolve_cluster, tags_of
from flows.started import command, machine
from tasks import hub
from tasks import inputs as external
from tasks.handover import models
from tasks.launch.errors import JobFailed
from tasks.monitor import prefect_pages
from tasks.report import render as page
from tasks.report import run_info
from tasks.report.model import ReportModel
from tasks.report.run_info import SETTINGS
from tasks.session import Session
from tasks.store.store import Artifact, Store

UNASKED = EvaluateConfig(mmlu=None, seq_length=128, sequences=64)
"""Default evaluation of a model without a run: no questions, which would need the hub."""


def run(
    name: str,
    store: str,
    cluster: Where,
    about: BaseModel | dict[str, Any],
    work: Callable[[Session, Path], Report],
    models: tuple[str, ...] = (),
) -> str:
    """Run `work` in a session and return the folder of its report, or fail with one sentence. `models` become tags of
    the run."""
    try:
        settings = about if isinstance(about, dict) else about.model_dump(mode="json")
        prefect_pages.tag(*tags_of(cluster), *(f"model:{model}" for model in models))
        with open_session(run_name(name), Path(store), settings, resolve_cluster(cluster)) as session:
            folder = session.store.root / "runs" / name
            run_info.keep(folder, SETTINGS, settings, session.cluster, command(), ended=False)
            report = work(session, folder)
            run_info.keep(folder, SETTINGS, settings, session.cluster, command(), ended=True)
            session.tracker.report(folder)
            prefect_pages.publish(session, folder, report, page.markdown(report, {}), page.cells(report.rows))
            return prefect_pages.ended(str(folder), session)
    except (ValueError, JobFailed) as error:
        return prefect_pages.failed(error)


@dataclass(frozen=True, kw_only=True)
class ModelToEvaluate:
    """A model to evaluate: its name and artifact, and how to evaluate it."""

    name: str
    artifact: Artifact
    teacher: Artifact
    teacher_name: str
    data: Artifact
    config: EvaluateConfig


def model_to_evaluate(
    session: Session, reference: str, text: DataConfig | None, config: EvaluateConfig | None
) -> ModelToEvaluate:
    """The model that `reference` names, with the given text and evaluation or those of its run, and with the cluster's
    layouts."""
    store, cluster = session.store, session.cluster
    if known := models.of_run(store, reference):
        config = place_settings_on_cluster(config or known.evaluate, cluster)
        return ModelToEvaluate(
            name=reference,
            artifact=known.artifact,
            teacher=known.teacher,
            teacher_name=known.teacher_name,
            data=known.data,
            config=config,
        )
    artifact, corpus = imported(store, cluster, reference, text)
    longest = longest_of(artifact)
    unasked = UNASKED.model_copy(update={"seq_length": min(UNASKED.seq_length, longest)})
    config = place_settings_on_cluster(evaluated(config or unasked, longest), cluster)
    name = Path(reference).name
    return ModelToEvaluate(
        name=name, artifact=artifact, teacher=artifact, teacher_name=name, data=corpus, config=config
    )


def describe(session: Session) -> RunInfo:
    """How the run of this session was made, for its report."""
    return run_info.describe(session, command(), machine())


def longest_of(model: Artifact) -> int:
    """The longest sequence that a model can read, in tokens."""
    config = read_json(Path(model.path) / "model" / "config.json")
    return int(config.get("max_position_embeddings") or 2**31)


def measure(
    session: Session,
    wanted: dict[str, Artifact],
    like: ModelToEvaluate,
    teacher: Artifact,
    verified: Mapping[str, Handle] = MappingProxyType({}),
    asks: EvaluateConfig | None = None,
) -> list[ReportModel]:
    """Evaluate models on the text and with the settings of `like`; `verified` compares some of them with an engine, and
    `asks` names the benchmarks that they are asked."""
    run, questions = Running(), external.questions_of(like.config, session.store)
    asks = asks and place_settings_on_cluster(engines.ready(asks, wanted, session), session.cluster)
    config = like.config.model_copy(update={"engine": asks.engine}) if asks else like.config
    judged = _judged(session, wanted, asks, run) if asks and asks.benchmarks else {}
    futures = {
        name: run(
            _label(name), config.measured_for(name), model=artifact, teacher=teacher, data=like.data, mmlu=questions
        )
        for name, artifact in wanted.items()
    }
    return [
        ReportModel(
            model=name,
            stage=artifact.stage,
            student=None,
            format=None,
            path=f"{artifact.path}/model",
            scores=run.made(futures[name]).path,
            training=None,
            benchmarks={key: run.made(handle).path for key, handle in judged.get(name, {}).items()},
            verified=verified[name].result().path if name in verified else None,
        )
        for name, artifact in wanted.items()
    ]


def _judged(
    session: Session, wanted: dict[str, Artifact], asks: EvaluateConfig, run: Running
) -> dict[str, dict[str, Handle]]:
    """Each model's scores on each benchmark."""
    files = external.benchmarks_of({name: each.path for name, each in asks.benchmarks.items()}, session.store)
    questions = benchmarks.read(run, asks, files)
    asked = [Model(name=name, stage=artifact.stage, artifact=artifact) for name, artifact in wanted.items()]
    for model in asked:
        benchmarks.ask(run, asks, questions, model)
    return {model.name: model.judged for model in asked}


def as_reported(asks: EvaluateConfig | None, names: Mapping[str, str]) -> EvaluateConfig | None:
    """The settings with a server's models by their names in the report; `names` by how the command names them."""
    if asks is None or not isinstance(asks.engine.model, dict):
        return asks
    served = {names[name]: model for name, model in asks.engine.model.items()}
    return asks.model_copy(update={"engine": asks.engine.model_copy(update={"model": served})})


def _label(name: str) -> str:
    return f"evaluate-{name.replace('/', '-')}"


def imported(store: Store, cluster: Cluster, reference: str, text: DataConfig | None) -> tuple[Artifact, Artifact]:
    """Import a model that is not in the store, and tokenize the corpus with its tokenizer, through the stages of a
    recipe. Runs inside a flow."""
    models.check_reference(store.root, reference, has_text=text is not None)
    assert text is not None, "check_reference"
    label, run = _plain(reference), Running()
    model = model_of(reference, store, run, f"fetch-{label}")
    text = hub.pinned(text, store)
    tokenizer = external.tokenizer_of(text, store, model)
    corpus = run.made(run(f"data-{label}", text, source=external.text(text, store), tokenizer=tokenizer))
    imported = place_settings_on_cluster(TeacherConfig.model_validate({"model": reference, "steps": 0}), cluster)
    return run.made(run(label, imported, data=corpus, model=model)), corpus


def _plain(reference: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-._" else "-" for sign in Path(reference).name) or "model"
