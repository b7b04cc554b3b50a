"""`imbik run` and `imbik plan`: make a recipe, or say what that would do."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

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


def plan(preset: str, overrides: Overrides = None, store: StoreOption = None) -> None:
    """Show every stage as cached or to run, with parameters, tokens, memory and disk; touches nothing."""
    from conf import estimate
    from conf.load import load
    from flows.plan import plan as stages_of

    recipe, root = load(preset, overrides), root_of(store)
    shown = Table("stage", "state", "parameters", "tokens", "memory", "disk", "what differs", header_style="bold")
    for stage in stages_of(recipe, root):
        numbers = estimate.stage(recipe, stage.label)
        shown.add_row(
            stage.label, "cached" if stage.cached else "will run", *numbers.cells(), stage.waits or _differences(stage.differs) or "-"
        )
    out.print(shown)
    for student in recipe.students:
        for called, gate in recipe.gates_of(student).items():
            sure = "the estimate" if gate.confidence == "none" else f"the worse end of the {gate.confidence:.0%} interval"
            out.print(f"gate {called} after {gate.after} of {student}: {gate.told}, at {sure}", highlight=False, markup=False)
    out.print(f"store {root}; memory is a job's peak over all its processes, estimated; disk is what its artifact keeps", style="dim")


def _differences(differs: dict[str, tuple[Any, Any]], most: int = 3) -> str:
    """Changed settings with their values, and which inputs are others."""
    settings = [f"{key}: {_brief(there)} → {_brief(here)}" for key, (there, here) in differs.items() if not key.startswith("input ")]
    inputs = [key.removeprefix("input ") for key in differs if key.startswith("input ")]
    return ", ".join(settings[:most] + ["..."] * (len(settings) > most) + ([f"another {' and '.join(inputs)}"] if inputs else []))


def _brief(value: object) -> str:
    return str(value)[:16]
