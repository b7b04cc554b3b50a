"""Shared by all commands of `imbik`: output, errors, options for the store and overrides."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

WIDE = 160
"""Columns if the output is a file or a pipe; tables are truncated to this width."""
out = Console(width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, soft_wrap=True)


def _folder(text: str) -> Path:
    if not text.strip():
        raise typer.BadParameter("it is empty; name a folder, or leave --store out for .imbik")
    return Path(text)


def complete_presets(incomplete: str) -> list[str]:
    """Presets for the shell's completion."""
    from conf.load import names

    return [name for name in names() if name.startswith(incomplete)]


def complete_runs(incomplete: str) -> list[str]:
    """Runs of the default store for the shell's completion."""
    folders = (root_of(None) / "runs").glob("[!.]*")
    return sorted(folder.name for folder in folders if folder.name.startswith(incomplete))


StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        parser=_folder,
        metavar="FOLDER",
        help="Folder of all artifacts; default: $IMBIK_STORE, else .imbik.",
    ),
]
Preset = Annotated[str, typer.Argument(help="A preset's name or a YAML file.", autocompletion=complete_presets)]
RunArgument = Annotated[str, typer.Argument(help="Name of a run.", autocompletion=complete_runs)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings as dotted.key=value; settings of the cluster as cluster.key=value."),
]
ClusterOption = Annotated[
    str, typer.Option("--cluster", help="Where to run: local, docker, slurm, kubernetes or a YAML file.")
]
OF_CLUSTER = "cluster."


def split_overrides(overrides: list[str] | None) -> tuple[list[str], list[str]]:
    """Split overrides into the recipe's and the cluster's, the latter without prefix."""
    all_overrides = overrides or []
    of_cluster = [text.removeprefix(OF_CLUSTER) for text in all_overrides if text.startswith(OF_CLUSTER)]
    return [text for text in all_overrides if not text.startswith(OF_CLUSTER)], of_cluster


def fail(sentence: str, code: int = 2) -> NoReturn:
    """Print an error and exit."""
    err.print(f"imbik: {sentence}", style="red", markup=False, highlight=False)
    sys.exit(code)


def root_of(store: Path | None) -> Path:
    """The given store, else $IMBIK_STORE, else .imbik in the current folder."""
    from conf.paths import in_home

    named = str(store or os.environ.get("IMBIK_STORE") or ".imbik")
    if re.match(r"[A-Za-z0-9+.-]+:/", named):  # a Path of s3://bucket has one slash
        raise ValueError(
            f"--store is {named}, but a store is a folder of this machine; name a folder, or mount it first"
        )
    return Path(in_home(named)).absolute()


def new_or_folder(store: Path | None) -> Path:
    """That folder for a command that makes it where there is none."""
    root = root_of(store)
    if root.exists() and not root.is_dir():
        raise ValueError(f"--store is {root}, which is not a folder; name the folder of a store, or a new one")
    return root


def existing(store: Path | None) -> Path:
    """That folder for a command that only looks at what is there: one that is named must exist."""
    root = new_or_folder(store)
    if (store or os.environ.get("IMBIK_STORE")) and not root.exists():
        raise ValueError(f"--store is {root}, which does not exist; name the folder of a store")
    return root


@contextlib.contextmanager
def flow_run(root: Path, *, jobs: bool = False, view: Console = out) -> Iterator[None]:
    """Context of a flow run from the command line: store, Prefect server, live view. With `jobs`, stages will run on
    this machine. `view` shows the progress. Slow starts overlap."""
    from flows.commands import live
    from flows.server import processes as server
    from tasks.launch import forkserver as warm
    from tasks.store.store import Store

    def meanwhile() -> None:
        if jobs:
            warm.start_early()
        importlib.import_module("flows.compress")  # importing Prefect and the tasks takes seconds

    Store(root).create()
    server.configure_prefect(root)
    with server.disk_watched(root), live.shown(view) as watch, server.prefect(root, meanwhile):
        from flows.session import board

        watch(board())
        yield


def show_report(folder: Path) -> None:
    """Print a run's table, its conclusions and the path of its report."""
    from tasks.report.render import table
    from tasks.store.runs import read_report

    report = read_report(folder)
    for sentence in report.verdict:
        out.print(sentence, style="bold", markup=False, highlight=False)
    if report.rows:
        out.print(table(report, out.width))
    closed = [gate.sentence for gate in report.gates if gate.verdict != "passed"]
    for sentence in [*report.summary, *closed]:
        out.print(f"• {sentence}", markup=False, highlight=False)
    out.print(f"\nreport: {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
