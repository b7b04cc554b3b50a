"""`imbik presets`, `imbik runs` and `imbik report`."""

from __future__ import annotations

import contextlib
import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.console import StoreOption, out, root_of, show_report


class Schema(StrEnum):
    """Files whose JSON schema is published."""

    recipe = "recipe"
    report = "report"


def presets() -> None:
    """List the shipped presets."""
    from conf.load import names, read

    table = Table("preset", "what it does", header_style="bold")
    for name in names():
        table.add_row(name, read(name).get("description", ""))
    out.print(table)


def runs(store: StoreOption = None) -> None:
    """List the runs of a store."""
    from tasks.store.runs import is_finished, read_report
    from tasks.store.store import StoreError

    root = root_of(store)
    table = Table("run", "models", "report", header_style="bold")
    for folder in sorted((root / "runs").glob("*")):
        models, page = "-", "not finished"
        if is_finished(root, folder.name):
            page = str(folder / "report.html")
            with contextlib.suppress(StoreError):  # the page of a run of another version can still be read
                models = str(len(read_report(folder).rows))
        table.add_row(folder.name, models, page)
    out.print(table)


def report(run: Annotated[str, typer.Argument(help="Name of a run.")], store: StoreOption = None) -> None:
    """Show a run's table and the path of its report."""
    from tasks.store.runs import folder_of

    show_report(folder_of(root_of(store), run))


def schema(of: Annotated[Schema, typer.Argument(help="recipe: a preset's YAML file; report: report.json.")]) -> None:
    """Print the JSON schema of a recipe or of report.json."""
    from conf.recipe import Recipe
    from conf.report.report import Report

    model = Recipe if of is Schema.recipe else Report
    out.file.write(json.dumps(model.model_json_schema(), indent=2) + "\n")
