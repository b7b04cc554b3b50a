"""`imbik study`: trials of a recipe with other values of some of its keys, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from flows.commands.console import (
    ClusterOption,
    JsonOption,
    Overrides,
    Preset,
    StoreOption,
    err,
    flow_run,
    new_or_folder,
    out,
    show_report,
    split_overrides,
)
from flows.commands.forms import print_json

if TYPE_CHECKING:
    from conf.cluster import Cluster
    from conf.report.study import StudyResult
    from flows.planned_study import PlannedStudy

SHOWN = 30
"""Trials that the table on the terminal has; the rest is in the report."""


def study(
    preset: Preset,
    overrides: Overrides = None,
    store: StoreOption = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of its run; default: the preset's, -study.")] = None,
    cluster: ClusterOption = "local",
    plan: Annotated[bool, typer.Option("--plan", help="Show its trials and what they share; run nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the study of a recipe: trials in rounds, then the best one and the recipe with fresh seeds. The same command
    continues a study that was stopped."""
    from conf.base import run_name
    from conf.cluster import load_cluster
    from conf.trials import load_study
    from flows.rounds import Space

    name = run_name(name or _name(Path(preset).stem))
    recipe_overrides, cluster_overrides = split_overrides(overrides)
    values, on_cluster, root = (
        load_study(preset, recipe_overrides),
        load_cluster(cluster, cluster_overrides),
        new_or_folder(store),
    )
    from conf.load import validate

    settings = validate(values).study
    assert settings is not None, "load_study"
    space = Space(values, settings, on_cluster, root)
    space.check()
    if plan:
        from flows.planned_study import planned

        _show_plan(planned(space), as_json)
        return
    folder = _run(
        values, name, root, on_cluster, [f"preset:{Path(preset).stem}", f"cluster:{Path(cluster).stem}"], as_json
    )
    from tasks.report.study import read_study

    found = read_study(folder)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    out.print(_table(found))
    show_report(folder)
    if found.best and (found.fresh is None or found.fresh.verdict != "worse"):
        command = _command(preset, recipe_overrides, found)
        out.print(f"the best as a run of its own: {command}", markup=False, highlight=False, soft_wrap=True)


def _name(stem: str) -> str:
    return stem if "study" in stem else f"{stem}-study"


def _run(values: dict[str, Any], name: str, root: Path, cluster: Cluster, tagged: list[str], as_json: bool) -> Path:
    with flow_run(root, jobs=cluster.kind == "local", view=err if as_json else out):
        from prefect import tags

        from flows.study import study as flow

        with tags(*tagged):
            arguments: Any = {"recipe": values, "name": name, "store": str(root), "cluster": cluster}
            return Path(flow(**arguments))


def _command(preset: str, overrides: list[str], found: StudyResult) -> str:
    import json
    import shlex

    assert found.best is not None
    point = found.trials[found.best - 1].point
    words = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in point.items()]
    return shlex.join(["imbik", "run", preset, *overrides, *words])


def _table(found: StudyResult) -> Table:
    """The trials, the best first."""
    from tasks.report.sections.study import row

    objectives = found.study.objectives
    table = Table(
        *("trial", "round", *found.study.space, *(each.title for each in objectives), "own tokens"), header_style="bold"
    )
    sign = 1 if objectives[0].lower else -1
    done = sorted((each for each in found.trials if each.values), key=lambda each: sign * (each.values or (0.0,))[0])
    others = sorted((each for each in found.trials if not each.values), key=lambda each: each.stopped is None)
    for trial in [*done, *others][:SHOWN]:
        table.add_row(*row(objectives, found, trial))
    if rest := len(found.trials) - SHOWN:
        table.caption = f"and {rest} more in the report" if rest > 0 else None
    return table


def _show_plan(found: PlannedStudy, as_json: bool) -> None:
    """The stages of a study and its trials."""
    from conf.trials import described

    if as_json:
        print_json(found.as_json())
        return
    table = Table("stage", "made", "in the store", "to run", header_style="bold")
    for stage in found.stages:
        table.add_row(stage.label, stage.made, str(stage.cached), str(stage.pending))
    out.print(table)
    trials = Table("trial", "round", "values", "own tokens", "state", header_style="bold")
    for trial, state in found.trials:
        trials.add_row(
            trial.mark, str(trial.round), trial.refused or described(trial.point), f"{trial.cost.tokens:,}", state
        )
    out.print(trials)
    for sentence in found.sentences:
        out.print(sentence, markup=False, highlight=False, soft_wrap=True)
