"""`imbik presets`, `imbik runs` and `imbik report`: what there is to run and what was run."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.console import StoreOption, out, root_of, show_report


def presets() -> None:
    """List the recipes that ship with imbik."""
    from conf.load import names, read

    shown = Table("preset", "what it does", header_style="bold")
    for name in names():
        shown.add_row(name, read(name).get("description", ""))
    out.print(shown)


def runs(store: StoreOption = None) -> None:
    """List the runs of a store."""
    shown = Table("run", "models", "report", header_style="bold")
    for folder in sorted((root_of(store) / "runs").glob("*")):
        report = folder / "report.json"
        models = str(len(json.loads(report.read_text())["rows"])) if report.is_file() else "-"
        shown.add_row(folder.name, models, str(folder / "report.html") if report.is_file() else "not finished")
    out.print(shown)


def report(run: Annotated[str, typer.Argument(help="Name of a run.")], store: StoreOption = None) -> None:
    """Show a run's table and where its report is."""
    folder = root_of(store) / "runs" / run
    if not (folder / "report.json").is_file():
        there = sorted(path.name for path in (root_of(store) / "runs").glob("*") if (path / "report.json").is_file())
        raise ValueError(
            f"there is no finished run {run} in {root_of(store)}; finished runs: {', '.join(there) or 'none'}"
        )
    show_report(folder)
