"""`imbik run`: make a recipe."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import Overrides, StoreOption, fail, out, root_of, show_report


def run(
    preset: Annotated[str, typer.Argument(help="A preset's name or a YAML file.")],
    overrides: Overrides = None,
    store: StoreOption = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run; default the preset's.")] = None,
) -> None:
    """Run a recipe here; what is in the store already is not made again. Exit code 3: a gate stopped a student, all else was done."""
    from conf.base import RUN_NAME
    from conf.load import load
    from flows import live, server

    called = name or Path(preset).stem
    if not re.fullmatch(RUN_NAME, called):
        raise ValueError(f"--name is {called!r}; choose up to 64 letters, digits, dots, dashes and underscores, a letter or digit first")
    recipe, root = load(preset, overrides), root_of(store)
    from tasks.store import Store

    Store(root).create()
    server.settle(root)
    with server.disk_watched(root), live.shown(out) as watch, server.prefect(root):
        known = server.services(root)
        if "mlflow" in known:
            os.environ.setdefault("MLFLOW_TRACKING_URI", known["mlflow"])
        from flows.compress import board, compress

        watch(board())
        folder = Path(compress(recipe=recipe, name=called, store=str(root)))
    show_report(folder)
    from flows.gates import CLOSED, summary

    report = json.loads((folder / "report.json").read_text())
    if closed := summary(report["gates"], report["stopped"]):
        fail(closed, CLOSED)
