"""`imbik runs` and `imbik report`, and what is done with runs and what they built: `rename`, `remove`, `clean`."""

from __future__ import annotations

from dataclasses import asdict, astuple, fields
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.commands.console import CsvOption, JsonOption, RunArgument, StoreOption, existing, out, show_report
from flows.commands.forms import one_form, print_csv, print_json
from flows.commands.units import lasting, sized

if TYPE_CHECKING:
    from tasks.store.cleaning import Freed
    from tasks.store.overview import RunOverview

SHOWN = 20
"""Folders that `clean` lists; the rest is counted."""


def runs(store: StoreOption = None, as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """List the runs of a store with state, date, duration, winner and size."""
    from tasks.store.overview import RunOverview, overview

    one_form(as_json, as_csv)
    root = existing(store)
    found = overview(root)
    if as_json:
        print_json([asdict(run) for run in found])
    elif as_csv:
        print_csv([field.name for field in fields(RunOverview)], [astuple(run) for run in found])
    elif found:
        out.print(_table(found))
    else:
        out.print(f"no runs in {root}", markup=False, highlight=False)


def _table(found: list[RunOverview]) -> Table:
    table = Table("run", "models", "state", "date", "stages took", "size", "winner", header_style="bold")
    for run in found:
        date = datetime.fromisoformat(run.date).astimezone().strftime("%Y-%m-%d %H:%M") if run.date else "-"
        models = "-" if run.models is None else str(run.models)
        table.add_row(run.run, models, run.state, date, lasting(run.seconds), sized(run.bytes), run.winner or "-")
    return table


def report(run: RunArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show a run's table and the path of its report; with --json, its report.json."""
    from tasks.store.runs import folder_of, read_report

    folder = folder_of(existing(store), run)
    if as_json:
        print_json(read_report(folder).model_dump(mode="json"))
    else:
        show_report(folder)


def rename(
    run: RunArgument,
    name: Annotated[str, typer.Argument(help="Its new name.")],
    store: StoreOption = None,
) -> None:
    """Rename a run: its folder and its report. MLflow and Prefect keep the name under which it ran."""
    from tasks.report.renaming import rename as renamed

    folder = renamed(existing(store), run, name)
    out.print(f"{run} is now {name}: {folder}", markup=False, highlight=False, soft_wrap=True)


def remove(run: RunArgument, store: StoreOption = None) -> None:
    """Remove a run: its report and its links. What its stages built stays in the store until `imbik clean`."""
    from tasks.store.cleaning import remove_run

    remove_run(existing(store), run)
    out.print(f"removed run {run}; imbik clean shows what can be freed", markup=False, highlight=False)


def clean(
    store: StoreOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Free it; without, only show what would be freed.")] = False,
    unfinished: Annotated[
        bool,
        typer.Option("--unfinished", help="Free also stages that did not finish; their runs start them anew."),
    ] = False,
) -> None:
    """Free what no run of the store links and no registered model needs: first shows what it would free."""
    from tasks.store import cleaning

    root = existing(store)
    freed = cleaning.clean(root, unfinished=unfinished) if yes else cleaning.removable(root, unfinished=unfinished)
    if freed:
        out.print(_freed(freed))
    total = f"{_count(len(freed), 'folder')}, {sized(sum(each.bytes for each in freed))}"
    if yes or not freed:
        out.print(f"freed {total}" if freed else f"nothing to free in {root}", markup=False, highlight=False)
    else:
        out.print(
            f"would free {total}; imbik clean{' --unfinished' * unfinished} --yes frees it",
            markup=False,
            highlight=False,
        )
    kept = [] if unfinished else [each for each in cleaning.removable(root, unfinished=True) if each not in freed]
    pending = [each for each in kept if each.why == "not finished"]
    if pending:
        size = sized(sum(each.bytes for each in pending))
        out.print(f"kept {_count(len(pending), 'unfinished stage')}, {size}; --unfinished frees them too", style="dim")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _freed(freed: list[Freed]) -> Table:
    table = Table("stage", "folder", "size", "why", header_style="bold")
    for each in freed[:SHOWN]:
        table.add_row(each.stage, each.path.name, sized(each.bytes), each.why)
    if rest := freed[SHOWN:]:
        table.add_row("...", f"{len(rest)} more", sized(sum(each.bytes for each in rest)), "")
    return table
