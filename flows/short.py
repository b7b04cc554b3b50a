"""The flow behind the short form of Prefect's pages: a recipe by name, with overrides as on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from conf.base import StoreFolder, run_name
from conf.load import load
from conf.patterns import RUN_NAME
from conf.placement import place_on_cluster
from flows.compress import run_recipe
from flows.session import Where, resolve_cluster, tags_of
from tasks.launch.errors import JobFailed
from tasks.monitor import prefect_pages
from tasks.stage import THREADS

Preset = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=f"^$|{RUN_NAME}")]


@flow(name="run", flow_run_name="{preset}", task_runner=THREADS, persist_result=False, validate_parameters=False)
def run(
    *,
    preset: Preset = "demo",
    name: Name = "",
    overrides: list[str] = [],  # noqa: B006 - Prefect shows the default in the form, and nothing changes it
    cluster: Where = "local",
    store: StoreFolder = ".imbik",
) -> str:
    """Run a preset with a few settings changed; the other deployments have a field for every setting.

    Args:
        preset: A preset's name (imbik presets lists them), or a YAML file on the worker.
        name: Name of the run, a folder under the store's runs/; empty: the preset's name.
        overrides: Settings to change, one each, as dotted.key=value, for instance distill.steps=200.
        cluster: Where to run: local, docker, slurm, kubernetes, or a YAML file there.
        store: Folder of all artifacts, as the worker sees it.
    """
    try:
        on_cluster = resolve_cluster(cluster)
        prefect_pages.tag(f"preset:{Path(preset).stem}", *tags_of(cluster))
        recipe = place_on_cluster(load(preset, list(overrides)), on_cluster)
        return run_recipe(recipe, run_name(name or Path(preset).stem), Path(store), on_cluster)
    except (ValueError, JobFailed) as error:
        return prefect_pages.failed(error)
