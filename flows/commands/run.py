"""`imbik run`: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.console import (
    ClusterOption,
    Overrides,
    Preset,
    StoreOption,
    fail,
    flow_run,
    new_or_folder,
    out,
    show_report,
    split_overrides,
)


def run(
    preset: Preset,
    overrides: Overrides = None,
    store: StoreOption = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run; default: the preset's name.")] = None,
    cluster: ClusterOption = "local",
) -> None:
    """Run a recipe on this machine or a cluster; stages already in the store are not run again. Exit code 3: a gate
    stopped a student, everything else finished."""
    from conf.base import run_name
    from conf.cluster import load_cluster
    from conf.load import load
    from conf.placement import place_on_cluster
    from flows.plan import plan as stages_of
    from flows.sizing import check_fits

    name = run_name(name or Path(preset).stem)
    recipe_overrides, cluster_overrides = split_overrides(overrides)
    on_cluster, root = load_cluster(cluster, cluster_overrides), new_or_folder(store)
    recipe = place_on_cluster(load(preset, recipe_overrides), on_cluster)
    stages = stages_of(recipe, root)
    check_fits(recipe, on_cluster, stages)
    with flow_run(root, jobs=on_cluster.kind == "local" and not all(stage.cached for stage in stages)):
        from prefect import tags

        from flows.compress import compress

        with tags(f"preset:{Path(preset).stem}", f"cluster:{Path(cluster).stem}"):
            folder = Path(compress(recipe=recipe, name=name, store=str(root), cluster=on_cluster))
    if recipe.study:
        out.print(f"this run leaves out its study: imbik study {preset}", style="dim", markup=False, soft_wrap=True)
    show_report(folder)
    from flows.outcome import CLOSED, summary
    from tasks.store.runs import read_report

    if closed := summary(read_report(folder)):
        fail(closed, CLOSED)
