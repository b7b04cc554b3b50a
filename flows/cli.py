"""The command `imbik`: run, plan, presets, runs, report, doctor, up. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Distil a large language model into small ones."
)
CTRL_C, TERMINATED = 130, 143
WIDE = 160
"""Columns where the output is a file or a pipe: tables are cut to what fits."""
out = Console(width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, soft_wrap=True)

StoreOption = Annotated[Path | None, typer.Option("--store", help="Folder of all artifacts; default $IMBIK_STORE, else .imbik.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings to change, as dotted.key=value.")]


def main() -> NoReturn:
    """Run the command line; a user's mistake ends as one sentence and exit code 2, without a traceback."""
    signal.signal(signal.SIGTERM, _terminated)
    stopped = "stopped; the same command continues from where it was"
    try:
        code = app(standalone_mode=False)  # typer turns Ctrl-C and Exit into a code that it returns
    except SystemExit as ended:
        if ended.code == TERMINATED:
            fail(stopped, TERMINATED)
        raise  # typer's, when nobody reads the output any more
    except (typer.Abort, KeyboardInterrupt):
        fail(stopped, CTRL_C)
    except Exception as error:
        # typer's own errors are usage mistakes; ValueError is ours for the user's; anything else is a defect and keeps its traceback.
        if format_message := getattr(error, "format_message", None):
            fail(format_message())
        if isinstance(error, ValueError) or type(error).__name__ == "JobFailed":
            fail(" ".join(str(error).split()), 2 if isinstance(error, ValueError) else 1)
        raise
    if code == CTRL_C:
        fail(stopped, CTRL_C)
    sys.exit(code or 0)


def fail(sentence: str, code: int = 2) -> NoReturn:
    """Say what is wrong and exit."""
    err.print(f"imbik: {sentence}", style="red", markup=False, highlight=False)
    sys.exit(code)


def _terminated(number: int, frame: Any) -> NoReturn:
    raise SystemExit(TERMINATED)


def _root(store: Path | None) -> Path:
    return (store or Path(os.environ.get("IMBIK_STORE") or ".imbik")).absolute()


@app.command()
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
    recipe, root = load(preset, overrides), _root(store)
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
    _show(folder)
    from flows.gates import CLOSED, summary

    report = json.loads((folder / "report.json").read_text())
    if closed := summary(report["gates"], report["stopped"]):
        fail(closed, CLOSED)


@app.command()
def plan(preset: str, overrides: Overrides = None, store: StoreOption = None) -> None:
    """Show every stage as cached or to run, with parameters, tokens, memory and disk; touches nothing."""
    from conf import estimate
    from conf.load import load
    from flows.plan import plan as stages_of

    recipe, root = load(preset, overrides), _root(store)
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


@app.command()
def presets() -> None:
    """List the recipes that ship with imbik."""
    from conf.load import names, read

    shown = Table("preset", "what it does", header_style="bold")
    for name in names():
        shown.add_row(name, read(name).get("description", ""))
    out.print(shown)


@app.command()
def runs(store: StoreOption = None) -> None:
    """List the runs of a store."""
    shown = Table("run", "models", "report", header_style="bold")
    for folder in sorted((_root(store) / "runs").glob("*")):
        report = folder / "report.json"
        models = str(len(json.loads(report.read_text())["rows"])) if report.is_file() else "-"
        shown.add_row(folder.name, models, str(folder / "report.html") if report.is_file() else "not finished")
    out.print(shown)


@app.command()
def report(run: Annotated[str, typer.Argument(help="Name of a run.")], store: StoreOption = None) -> None:
    """Show a run's table and where its report is."""
    folder = _root(store) / "runs" / run
    if not (folder / "report.json").is_file():
        there = sorted(path.name for path in (_root(store) / "runs").glob("*") if (path / "report.json").is_file())
        raise ValueError(f"there is no finished run {run} in {_root(store)}; finished runs: {', '.join(there) or 'none'}")
    _show(folder)


@app.command()
def doctor(store: StoreOption = None) -> None:
    """Say what this machine can do, what is missing, and how to mend it."""
    from flows.doctor import findings

    shown, healthy = Table("", "what", "found", "how to mend it", header_style="bold"), True
    for finding in findings(_root(store)):
        shown.add_row("ok" if finding.good else "!!" if finding.needed else "--", finding.what, finding.found, finding.mend)
        healthy &= finding.good or not finding.needed
    out.print(shown)
    raise typer.Exit(0 if healthy else 1)


@app.command()
def up(
    store: StoreOption = None,
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect server.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow server.")] = 5000,
) -> None:
    """Start a Prefect and an MLflow server for the store on this machine, until Ctrl-C."""
    from flows import server
    from tasks.store import Store

    root = _root(store)
    Store(root).create()
    server.settle(root)
    with (
        server.mlflow(root, mlflow_port) as (mlflow_url, mlflow),
        server.embedded_prefect(root, prefect_port, user_interface=True) as (url, prefect),
    ):
        file = root / server.SERVICES
        try:
            file.write_text(json.dumps({"prefect": url, "mlflow": mlflow_url, "pid": os.getpid()}))
            out.print(f"Prefect  {url.removesuffix('/api')}\nMLflow   {mlflow_url}\nRuns with --store {root} use them. Ctrl-C stops both.")
            while mlflow.poll() is None and prefect.poll() is None:
                signal.sigtimedwait([], 1.0)
        except KeyboardInterrupt:
            return
        finally:
            file.unlink(missing_ok=True)
    fail("a server ended by itself; its log is in the store", 1)


def _show(folder: Path) -> None:
    from tasks.page import table

    content = json.loads((folder / "report.json").read_text())
    out.print(table(content, out.width))
    closed = [entry["sentence"] for entry in content.get("gates", []) if entry["verdict"] != "passed"]
    for sentence in [*content["meaning"], *closed]:
        out.print(f"• {sentence}", markup=False, highlight=False)
    out.print(f"\nreport: {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
