"""What every command of `imbik` shares: where it prints, how it fails, which store and overrides it was given."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

WIDE = 160
"""Columns where the output is a file or a pipe: tables are cut to what fits."""
out = Console(width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, soft_wrap=True)

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Folder of all artifacts; default $IMBIK_STORE, else .imbik.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings to change, as dotted.key=value; the cluster's as cluster.key=value."),
]
ClusterOption = Annotated[
    str, typer.Option("--cluster", help="Where to run: local, docker, slurm, kubernetes or a YAML file.")
]
OF_CLUSTER = "cluster."


def split_overrides(overrides: list[str] | None) -> tuple[list[str], list[str]]:
    """Overrides of the recipe, and those of the cluster without their prefix."""
    given = overrides or []
    theirs = [text.removeprefix(OF_CLUSTER) for text in given if text.startswith(OF_CLUSTER)]
    return [text for text in given if not text.startswith(OF_CLUSTER)], theirs


def fail(sentence: str, code: int = 2) -> NoReturn:
    """Say what is wrong and exit."""
    err.print(f"imbik: {sentence}", style="red", markup=False, highlight=False)
    sys.exit(code)


def root_of(store: Path | None) -> Path:
    """The store that was named, else the environment's, else .imbik here."""
    return (store or Path(os.environ.get("IMBIK_STORE") or ".imbik")).absolute()


@contextlib.contextmanager
def flow_run(root: Path, *, jobs: bool = False) -> Iterator[None]:
    """What a flow run from the command line needs around it: the store, Prefect's server, the live view. With `jobs`,
    stages will be built on this machine. What starts slowly starts side by side."""
    from flows.commands import live
    from flows.server import processes as server
    from tasks.launch import forkserver as warm
    from tasks.store.store import Store

    def meanwhile() -> None:
        if jobs:
            warm.start_early()
        importlib.import_module("flows.compress")  # Prefect, the tasks and what they need take seconds

    Store(root).create()
    server.configure_prefect(root)
    with server.disk_watched(root), live.shown(out) as watch, server.prefect(root, meanwhile):
        from flows.session import board

        watch(board())
        yield


def show_report(folder: Path) -> None:
    """A run's table, its sentences, and where its report is."""
    from tasks.report.render import table
    from tasks.store.runs import read_report

    report = read_report(folder)
    if report.rows:
        out.print(table(report, out.width))
    closed = [gate.sentence for gate in report.gates if gate.verdict != "passed"]
    for sentence in [*report.summary, *closed]:
        out.print(f"• {sentence}", markup=False, highlight=False)
    out.print(f"\nreport: {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
