"""`imbik presets`, `imbik runs` and `imbik report`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.console import StoreOption, out, root_of, show_report


def presets() -> None:
    """List the shipped presets."""
    from conf.load import names, read

    table = Table("preset", "what it does", header_style="bold")
    for name in names():
        table.add_row(name, read(name).get("description", ""))
    out.print(table)


def runs(store: StoreOption = None) -> None:
    """List the runs of a store."""
    table = Table("run", "models", "report", header_style="bold")
    for folder in sorted((root_of(store) / "runs").glob("*")):
        report = folder / "report.json"
        models = str(len(json.loads(report.read_text())["rows"])) if report.is_file() else "-"
        table.add_row(folder.name, models, str(folder / "report.html") if report.is_file() else "not finished")
    out.print(table)


def report(run: Annotated[str, typer.Argument(help="Name of a run.")], store: StoreOption = None) -> None:
    """Show a run's table and the path of its report."""
    folder = root_of(store) / "runs" / run
    if not (folder / "report.json").is_file():
        finished = sorted(path.name for path in (root_of(store) / "runs").glob("*") if (path / "report.json").is_file())
        raise ValueError(
            f"there is no finished run {run} in {root_of(store)}; finished runs: {', '.join(finished) or 'none'}"
        )
    show_report(folder)
