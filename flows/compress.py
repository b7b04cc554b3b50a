"""The compress flow: run a recipe's pipeline and write its report."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from prefect import flow
from prefect.states import Completed

from conf.base import RunName, StoreFolder, run_name
from conf.cluster import Cluster
from conf.load import validate_recipe
from conf.placement import place_on_cluster
from conf.recipe import Recipe
from flows import engines, outcome
from flows.inputs import resolve
from flows.pipeline import Pipeline
from flows.plan import plan
from flows.running import Running
from flows.session import Where, open_session, resolve_cluster, tags_of
from flows.sizing import check_fits
from flows.started import command
from tasks import hub
from tasks.launch.errors import JobFailed
from tasks.monitor import prefect_pages
from tasks.report import run_info
from tasks.report.run_info import RECIPE
from tasks.stage import THREADS


@flow(
    name="compress",
    flow_run_name="{name}",
    task_runner=THREADS,
    persist_result=False,
    validate_parameters=False,  # `validate_recipe` does it, with the messages of the command line
)
def compress(*, name: RunName = "run", cluster: Where = "local", store: StoreFolder = ".imbik", recipe: Recipe) -> str:
    """Run a recipe on a cluster and write its report to `<store>/runs/<name>`. Stages that are already in the store are
    not run again.

    Args:
        name: Name of the run, a folder under the store's runs/.
        cluster: Where to run: local, docker, slurm, kubernetes, or a YAML file there.
        store: Folder of all artifacts, as the worker sees it.
        recipe: A complete run: one corpus, one teacher, its students, their formats and one report.
    """
    try:
        on_cluster = resolve_cluster(cluster)
        prefect_pages.tag(*tags_of(cluster))
        return run_recipe(
            place_on_cluster(validate_recipe(recipe), on_cluster), run_name(name), Path(store), on_cluster
        )
    except (ValueError, JobFailed) as error:
        return prefect_pages.failed(error)


def run_recipe(recipe: Recipe, name: str, store: Path, cluster: Cluster) -> str:
    """Run a checked recipe, which has the cluster's layouts, within a flow. Returns the folder of its report."""
    with open_session(name, store, recipe.model_dump(mode="json"), cluster) as session:
        prefect_pages.tag(f"model:{model_name(recipe)}")
        recipe = engines.pinned(hub.pin_revisions(recipe, session.store), session.store)
        stages = plan(recipe, session.store.root)
        check_fits(recipe, cluster, stages)
        if not all(stage.cached for stage in stages):
            session.launcher.prepare()
        folder = session.store.root / "runs" / name
        run_info.keep(folder, RECIPE, recipe.model_dump(mode="json"), cluster, command(), ended=False)
        run = Running()
        pipeline = Pipeline(recipe, resolve(recipe, session.store, run), run)
        closed = outcome.report(session, recipe, folder, pipeline.models, run)
        if not closed:
            return prefect_pages.ended(str(folder), session)
    return cast(str, Completed(name="Stopped by a gate", message=closed, data=str(folder)))


def model_name(recipe: Recipe) -> str:
    """Display name of the teacher: its folder or hub id, or from-scratch."""
    model = recipe.teacher.model
    return "from-scratch" if model is None else Path(model).name or model
