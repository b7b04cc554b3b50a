"""Evaluate models: side by side, over the same text and questions."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from conf.base import RunName, StoreFolder
from conf.placement import place_settings_on_cluster
from conf.report.report import Report
from conf.standalone import Evaluating, validate_settings
from flows import standalone as single
from flows.session import Where, resolve_cluster
from tasks.monitor import prefect_pages as seen
from tasks.report.standalone import write_models
from tasks.session import Session
from tasks.stage import THREADS


@flow(name="evaluate", flow_run_name="{name}", persist_result=False, validate_parameters=False, task_runner=THREADS)
def evaluate(
    *, name: RunName = "evaluated", cluster: Where = "local", store: StoreFolder = ".imbik", settings: Evaluating
) -> str:
    """Measure models and compare them with the first.

    Returns the folder of the report.

    Args:
        name: Name of the run, a folder under the store's runs/.
        cluster: Where to run: local, docker, slurm, kubernetes, or a YAML file there.
        store: Folder of all artifacts, as the worker sees it.
        settings: The models, and what they are measured with.
    """
    try:
        wanted = place_settings_on_cluster(validate_settings(Evaluating, settings), resolve_cluster(cluster))
    except ValueError as error:
        return seen.failed(error)

    def work(session: Session, folder: Path) -> Report:
        session.launcher.prepare()
        subjects = [single.model_to_evaluate(session, model, wanted.data, wanted.evaluate) for model in wanted.models]
        first = subjects[0]
        teacher = (
            single.model_to_evaluate(session, wanted.teacher, wanted.data, wanted.evaluate).artifact
            if wanted.teacher
            else first.teacher
        )
        measured = single.measure(session, {one.name: one.artifact for one in subjects}, first, teacher)
        about = f"{', '.join(one.name for one in subjects)}, measured alike. Differences are to the first row."
        return write_models(folder, name, about, measured)

    return single.run(name, store, cluster, wanted, work, wanted.models)
