"""The evaluate flow: evaluate models on the same text and questions."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from conf.base import RunName, StoreFolder
from conf.placement import place_settings_on_cluster
from conf.report.report import Report
from conf.standalone import Evaluating, validate_settings
from flows import engines
from flows import standalone as single
from flows.session import Where, resolve_cluster
from tasks.monitor import prefect_pages
from tasks.report.standalone import write_models
from tasks.session import Session
from tasks.stage import THREADS


@flow(name="evaluate", flow_run_name="{name}", persist_result=False, validate_parameters=False, task_runner=THREADS)
def evaluate(
    *, name: RunName = "evaluated", cluster: Where = "local", store: StoreFolder = ".imbik", settings: Evaluating
) -> str:
    """Evaluate models and compare them with the first.

    Returns the folder of the report.

    Args:
        name: Name of the run, a folder under the store's runs/.
        cluster: Where to run: local, docker, slurm, kubernetes, or a YAML file there.
        store: Folder of all artifacts, as the worker sees it.
        settings: The models and how to evaluate them.
    """
    try:
        validated = place_settings_on_cluster(validate_settings(Evaluating, settings), resolve_cluster(cluster))
    except ValueError as error:
        return prefect_pages.failed(error)

    def work(session: Session, folder: Path) -> Report:
        if validated.evaluate:
            engines.ready(validated.evaluate, validated.models, session)
        session.launcher.prepare()
        subjects = [
            single.model_to_evaluate(session, model, validated.data, validated.evaluate) for model in validated.models
        ]
        first = subjects[0]
        teacher = (
            single.model_to_evaluate(session, validated.teacher, validated.data, validated.evaluate).artifact
            if validated.teacher
            else first.teacher
        )
        names = {model: subject.name for model, subject in zip(validated.models, subjects, strict=True)}
        asks = single.as_reported(validated.evaluate, names)
        wanted = {subject.name: subject.artifact for subject in subjects}
        measured = single.measure(session, wanted, first, teacher, asks=asks)
        description = (
            f"{', '.join(subject.name for subject in subjects)}, evaluated on the same text and questions. Differences"
            " are relative to the first row."
        )
        against = validated.teacher or first.teacher_name
        return write_models(folder, name, description, measured, against, single.describe(session))

    return single.run(name, store, cluster, validated, work, validated.models)
