"""The quantize flow: quantize a model to several formats and evaluate each against the original."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from conf.base import RunName, StoreFolder
from conf.engines.vllm import required
from conf.fitted import shorter, verified_within
from conf.placement import place_settings_on_cluster
from conf.report.report import Report
from conf.standalone import Quantizing, validate_settings
from flows import engines
from flows import standalone as single
from flows.formats import formats
from flows.running import Running
from flows.session import Where, resolve_cluster
from tasks.monitor import prefect_pages
from tasks.report.standalone import write_models
from tasks.session import Session
from tasks.stage import THREADS
from tasks.store.store import StoreError


@flow(name="quantize", flow_run_name="{name}", persist_result=False, validate_parameters=False, task_runner=THREADS)
def quantize(
    *, name: RunName = "quantized", cluster: Where = "local", store: StoreFolder = ".imbik", settings: Quantizing
) -> str:
    """Quantize a model to one or more formats and measure the loss of each.

    Returns the folder of the report.

    Args:
        name: Name of the run, a folder under the store's runs/.
        cluster: Where to run: local, docker, slurm, kubernetes, or a YAML file there.
        store: Folder of all artifacts, as the worker sees it.
        settings: The model, its formats and how to evaluate them.
    """
    try:
        validated = place_settings_on_cluster(validate_settings(Quantizing, settings), resolve_cluster(cluster))
    except ValueError as error:
        return prefect_pages.failed(error)

    def work(session: Session, folder: Path) -> Report:
        _check_engines(validated, session)
        session.launcher.prepare()
        original = single.model_to_evaluate(session, validated.model, validated.data, validated.evaluate)
        if original.artifact.stage == "quantize":
            raise StoreError(f"{validated.model} is already quantized; use the model that it was made from")
        longest = single.longest_of(original.artifact)
        wanted = tuple(shorter(config, longest) for config in validated.quantize)
        name_in_labels = original.name.replace("/", "-")
        run = Running()
        futures = {
            config.name: future
            for config, future in formats(run, name_in_labels, wanted, model=original.artifact, data=original.data)
        }
        verify = validated.verify and verified_within(validated.verify, longest)
        verified = {
            f"{original.name}-{form}": run(f"verify-{name_in_labels}-{form}", verify, model=future, data=original.data)
            for form, future in futures.items()
            if verify and verify.covers(form)
        }
        models = {original.name: original.artifact} | {
            f"{original.name}-{form}": run.made(future) for form, future in futures.items()
        }
        names = {name.replace(original.name, validated.model, 1): name for name in models}
        asks = single.as_reported(validated.evaluate, names)
        measured = single.measure(session, models, original, original.teacher, verified, asks)
        description = f"{original.name} in {', '.join(futures)}. Differences are relative to the first row."
        how = single.describe(session)
        return write_models(folder, name, description, measured, original.teacher_name, how)

    return single.run(name, store, cluster, validated, work, (validated.model,))


def _check_engines(settings: Quantizing, session: Session) -> None:
    """Raise ValueError, before the first job, where an engine that is to verify or answer is away."""
    if settings.evaluate:
        named = [f"{settings.model}-{config.name}" for config in settings.quantize]
        engines.ready(settings.evaluate, [settings.model, *named], session)
    if settings.verify and session.cluster.kind == "local":
        required()
