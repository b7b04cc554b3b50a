"""Quantize one model: in each format asked for, measured beside the original."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from conf.base import RunName, StoreFolder
from conf.placement import place_settings_on_cluster
from conf.report.report import Report
from conf.standalone import Quantizing, validate_settings
from flows import standalone as single
from flows.pipeline import formats
from flows.running import Running
from flows.session import Where, resolve_cluster
from tasks.monitor import prefect_pages as seen
from tasks.report.standalone import write_models
from tasks.session import Session
from tasks.stage import THREADS
from tasks.store.store import StoreError


@flow(name="quantize", flow_run_name="{name}", persist_result=False, validate_parameters=False, task_runner=THREADS)
def quantize(
    *, name: RunName = "quantized", cluster: Where = "local", store: StoreFolder = ".imbik", settings: Quantizing
) -> str:
    """Quantize a model in one or several formats and say what each costs.

    Returns the folder of the report.

    Args:
        name: Name of the run, a folder under the store's runs/.
        cluster: Where to run: local, docker, slurm, kubernetes, or a YAML file there.
        store: Folder of all artifacts, as the worker sees it.
        settings: The model, its formats, and what they are measured with.
    """
    try:
        wanted = place_settings_on_cluster(validate_settings(Quantizing, settings), resolve_cluster(cluster))
    except ValueError as error:
        return seen.failed(error)

    def work(session: Session, folder: Path) -> Report:
        session.launcher.prepare()
        whole = single.model_to_evaluate(session, wanted.model, wanted.data, wanted.evaluate)
        if whole.artifact.stage == "quantize":
            raise StoreError(f"{wanted.model} is quantized already; name the model it was made from")
        called = whole.name.replace("/", "-")
        futures = {
            config.name: future
            for config, future in formats(Running(), called, wanted.quantize, model=whole.artifact, data=whole.data)
        }
        made = {whole.name: whole.artifact} | {
            f"{whole.name}-{form}": future.result() for form, future in futures.items()
        }
        measured = single.measure(session, made, whole, whole.teacher)
        about = f"{whole.name} in {', '.join(futures)}. Differences are to the first row."
        return write_models(folder, name, about, measured)

    return single.run(name, store, cluster, wanted, work, (wanted.model,))
