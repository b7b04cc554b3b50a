"""`imbik deploy`, `schedule`, `schedules` and `unschedule`: deployments and schedules in Prefect."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.commands.console import ClusterOption, Overrides, StoreOption, out, root_of

Pool = Annotated[str, typer.Option("--work-pool", help="Work pool for the runs.")]


def deploy(
    recipes: Annotated[
        list[str] | None, typer.Argument(help="Presets or YAML files; default: all presets and single-stage flows.")
    ] = None,
    store: StoreOption = None,
    cluster: ClusterOption = "local",
    work_pool: Pool = "imbik",
    automations: Annotated[
        Path | None, typer.Option(help="File of automations to create as well, for instance deploy/automations.yaml.")
    ] = None,
    notify: Annotated[str | None, typer.Option(help="URL to which the automations post notifications.")] = None,
) -> None:
    """Register deployments with the Prefect server, to run them from its UI."""
    from conf.cluster import load_cluster
    from conf.load import load
    from conf.placement import place_on_cluster

    on_cluster = load_cluster(cluster)
    loaded = {Path(preset).stem: load(preset) for preset in recipes or []}
    for recipe in loaded.values():
        place_on_cluster(recipe, on_cluster)  # checks that it can run there; the form starts with the recipe itself
    root = _connect(_configured(store))
    from flows.server import deployments

    shared: dict[str, Any] = {
        "common": {"store": str(root), "cluster": _placed(cluster)},
        "pool": work_pool,
        "work": _work(work_pool),
    }
    to_register = [deployments.of_recipe(recipe, name, preset=name, **shared) for name, recipe in loaded.items()]
    if not to_register:
        to_register = deployments.shipped(**shared)
    for name in deployments.register(to_register, work_pool):
        out.print(name, highlight=False)
    if automations:
        from flows.server.automations import create

        for name in create(automations, notify):
            out.print(f"automation {name}", highlight=False)


def schedule(
    preset: Annotated[str, typer.Argument(help="A preset's name or a YAML file.")],
    overrides: Overrides = None,
    cron: Annotated[str | None, typer.Option(help="Cron expression: minute hour day month weekday.")] = None,
    every: Annotated[float | None, typer.Option(help="Interval in minutes, instead of --cron.")] = None,
    timezone: Annotated[str, typer.Option(help="Time zone of --cron, for instance Europe/Berlin.")] = "UTC",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the deployment and its runs; default: the preset's name.")
    ] = None,
    cluster: ClusterOption = "local",
    store: StoreOption = None,
    work_pool: Pool = "imbik",
) -> None:
    """Run a recipe on a schedule; unchanged stages are not run again, and overlapping runs are queued."""
    from conf.base import run_name
    from conf.cluster import load_cluster
    from conf.load import load
    from conf.placement import place_on_cluster

    name = run_name(name or Path(preset).stem)
    recipe = load(preset, overrides)
    place_on_cluster(recipe, load_cluster(cluster))
    root = _connect(_configured(store))
    from flows.server import deployments
    from flows.server import schedules as server_schedules

    when = server_schedules.schedule_of(cron, every, timezone, name)
    deployment = deployments.of_recipe(
        recipe,
        name,
        preset=Path(preset).stem,
        common={"store": str(root), "cluster": _placed(cluster)},
        pool=work_pool,
        schedule=when,
        work=_work(work_pool),
    )
    deployments.register([deployment], work_pool)
    times = ", ".join(server_schedules.coming(when, 3))
    out.print(
        f"{deployment.full_name} runs {server_schedules.describe(when)}; next: {times}",
        highlight=False,
        soft_wrap=True,
    )


def schedules(store: StoreOption = None) -> None:
    """List schedules with their next and late runs."""
    _connect(_configured(store))
    from flows.server import schedules as server_schedules

    table = Table("deployment", "runs", "next", "late", header_style="bold")
    for line in server_schedules.listed():
        table.add_row(*line)
    out.print(table)


def unschedule(
    deployment: Annotated[str, typer.Argument(help="Name of a deployment, as in `imbik schedules`.")],
    store: StoreOption = None,
) -> None:
    """Remove the schedules of a deployment; the deployment itself stays."""
    _connect(_configured(store))
    from flows.server import schedules as server_schedules

    count = server_schedules.remove(deployment)
    out.print(
        f"{count} schedule{'s' if count != 1 else ''} of {deployment} removed; the deployment stays", highlight=False
    )


def _configured(store: Path | None) -> Path:
    """Configure Prefect for the store; must run before Prefect is imported."""
    from flows.server import processes as server

    root = root_of(store)
    server.configure_prefect(root)
    return root


def _connect(root: Path) -> Path:
    """Find the Prefect server: PREFECT_API_URL, else the server that `imbik up` runs for the store."""
    from flows.server import processes as server
    from tasks.tracking.servers import services

    url = os.environ.get("PREFECT_API_URL") or services(root).get("prefect")
    if not url:
        raise ValueError(
            f"no Prefect server is configured; set PREFECT_API_URL, or run `imbik up --store {root}` in another"
            " terminal"
        )
    server.check_reachable(url)
    os.environ["PREFECT_API_URL"] = url
    return root


def _work(pool: str) -> dict[str, Any]:
    """Job variables: in this machine's own pool, relative paths in a recipe start at the current folder; other pools
    have their own."""
    from flows.server.deployments import POOL, place

    return place(Path.cwd()) if pool == POOL else {}


def _placed(cluster: str) -> str:
    """A cluster by name, or its file by a path that a worker in another folder finds."""
    from conf.load import FILES
    from conf.paths import located

    return located(cluster) if Path(cluster).suffix in FILES else cluster
