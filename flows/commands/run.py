"""`imbik run`: make a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.console import (
    ClusterOption,
    Overrides,
    StoreOption,
    fail,
    flow_run,
    root_of,
    show_report,
    split_overrides,
)


def run(
    preset: Annotated[str, typer.Argument(help="A preset's name or a YAML file.")],
    overrides: Overrides = None,
    store: StoreOption = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run; default the preset's.")] = None,
    cluster: ClusterOption = "local",
) -> None:
    """Run a recipe, here or on a cluster; what is in the store already is not made again. Exit code 3: a gate stopped a
    student, all else was done."""
    from conf.base import run_name
    from conf.cluster import load_cluster
    from conf.load import load
    from conf.placement import place_on_cluster
    from flows.plan import plan as stages_of
    from flows.sizing import check_fits

    called = run_name(name or Path(preset).stem)
    own, theirs = split_overrides(overrides)
    where, root = load_cluster(cluster, theirs), root_of(store)
    recipe = place_on_cluster(load(preset, own), where)
    stages = stages_of(recipe, root)
    check_fits(recipe, where, stages)
    with flow_run(root, jobs=where.kind == "local" and not all(stage.cached for stage in stages)):
        from prefect import tags

        from flows.compress import compress

        with tags(f"preset:{Path(preset).stem}", f"cluster:{Path(cluster).stem}"):
            folder = Path(compress(recipe=recipe, name=called, store=str(root), cluster=where))
    show_report(folder)
    from flows.outcome import CLOSED, summary
    from tasks.store.runs import read_report

    if closed := summary(read_report(folder)):
        fail(closed, CLOSED)
