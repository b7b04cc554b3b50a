"""`imbik deploy`, `schedule`, `schedules` and `unschedule`: what Prefect's pages can run, and when it runs by
itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.commands.console import ClusterOption, Overrides, StoreOption, out, root_of

Pool = Annotated[str, typer.Option("--work-pool", help="Work pool that runs them.")]


def deploy(
    recipes: Annotated[
        list[str] | None, typer.Argument(help="Presets or YAML files; default every preset and single stage.")
    ] = None,
    store: StoreOption = None,
    cluster: ClusterOption = "local",
    work_pool: Pool = "imbik",
    automations: Annotated[
        Path | None, typer.Option(help="File of automations to make too, for instance deploy/automations.yaml.")
    ] = None,
    notify: Annotated[
        str | None, typer.Option(help="Address that the automations' notifications are posted to.")
    ] = None,
) -> None:
    """Register deployments with the Prefect server, so that its pages can run them."""
    from conf.cluster import load_cluster
    from conf.load import load
    from conf.placement import place_on_cluster

    where = load_cluster(cluster)
    loaded = {Path(one).stem: load(one) for one in recipes or []}
    for recipe in loaded.values():
        place_on_cluster(recipe, where)  # refuses what cannot run there; the form starts as the recipe itself
    root = _connect(_settled(store))
    from flows.server import deployments

    given: dict[str, Any] = {
        "common": {"store": str(root), "cluster": cluster},
        "pool": work_pool,
        "work": _work(work_pool),
    }
    wanted = [deployments.of_recipe(recipe, called, preset=called, **given) for called, recipe in loaded.items()]
    if not wanted:
        wanted = deployments.shipped(**given)
    for name in deployments.register(wanted, work_pool):
        out.print(name, highlight=False)
    if automations:
        from flows.server.automations import create

        for name in create(automations, notify):
            out.print(f"automation {name}", highlight=False)


def schedule(
    preset: Annotated[str, typer.Argument(help="A preset's name or a YAML file.")],
    overrides: Overrides = None,
    cron: Annotated[str | None, typer.Option(help="When, as cron writes it: minute hour day month weekday.")] = None,
    every: Annotated[float | None, typer.Option(help="Or how often, in minutes.")] = None,
    timezone: Annotated[str, typer.Option(help="Time zone of cron, for instance Europe/Berlin.")] = "UTC",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the deployment and its runs; default the preset's.")
    ] = None,
    cluster: ClusterOption = "local",
    store: StoreOption = None,
    work_pool: Pool = "imbik",
) -> None:
    """Run a recipe at set times; what did not change is not made again, and runs that overlap queue."""
    from conf.base import run_name
    from conf.cluster import load_cluster
    from conf.load import load
    from conf.placement import place_on_cluster

    called = run_name(name or Path(preset).stem)
    recipe = load(preset, overrides)
    place_on_cluster(recipe, load_cluster(cluster))
    root = _connect(_settled(store))
    from flows.server import deployments
    from flows.server import schedules as known

    when = known.schedule_of(cron, every, timezone, called)
    made = deployments.of_recipe(
        recipe,
        called,
        preset=Path(preset).stem,
        common={"store": str(root), "cluster": cluster},
        pool=work_pool,
        schedule=when,
        work=_work(work_pool),
    )
    deployments.register([made], work_pool)
    out.print(
        f"{made.full_name} runs {known.describe(when)}; next: {', '.join(known.coming(when, 3))}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def schedules(store: StoreOption = None) -> None:
    """List what runs by itself, with the next and the late runs."""
    _connect(_settled(store))
    from flows.server import schedules as known

    shown = Table("deployment", "runs", "next", "late", header_style="bold")
    for line in known.listed():
        shown.add_row(*line)
    out.print(shown)


def unschedule(
    deployment: Annotated[str, typer.Argument(help="A deployment's name, as `imbik schedules` lists it.")],
    store: StoreOption = None,
) -> None:
    """Take a deployment's schedules away; the deployment stays."""
    _connect(_settled(store))
    from flows.server import schedules as known

    count = known.remove(deployment)
    out.print(
        f"{count} schedule{'s' if count != 1 else ''} of {deployment} removed; the deployment stays", highlight=False
    )


def _settled(store: Path | None) -> Path:
    """Point Prefect at the store, before it is imported."""
    from flows.server import processes as server

    root = root_of(store)
    server.configure_prefect(root)
    return root


def _connect(root: Path) -> Path:
    """Find the Prefect server: the one that is named, else the one `imbik up` runs for the store."""
    from flows.server import processes as server
    from tasks.tracking.servers import services

    known = os.environ.get("PREFECT_API_URL") or services(root).get("prefect")
    if not known:
        raise ValueError(
            f"no Prefect server is known: set PREFECT_API_URL, or run `imbik up --store {root}` in another terminal"
        )
    server.check_reachable(known)
    os.environ["PREFECT_API_URL"] = known
    return root


def _work(pool: str) -> dict[str, Any]:
    """Job variables: on this machine's own pool relative paths of a recipe are seen from here; what another pool has,
    its makers know."""
    from flows.server.deployments import POOL, place

    return place(Path.cwd()) if pool == POOL else {}
