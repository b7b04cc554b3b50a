"""The command `imbik`: assembles the commands of `flows.commands` and reports errors as one sentence and an exit
code."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from conf.environment import settle, text_is_utf8
from flows.commands import bench as latency
from flows.commands import deploy as operate
from flows.commands import models, nemo, plan, recipes, run, runs, scale, study
from flows.commands import server as machine
from flows.commands import standalone as single
from flows.commands.console import fail, out

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compress a large language model into small ones: prune, distil, quantize, evaluate.",
)
CTRL_C, TERMINATED = 130, 143
GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "Recipes": (
        run.run,
        plan.plan,
        study.study,
        recipes.init,
        recipes.show,
        recipes.presets,
        recipes.schema,
        nemo.nemo_commands,
    ),
    "Runs": (runs.runs, runs.report, single.compare, scale.scale, runs.rename, runs.remove, runs.clean),
    "Single stages": (single.prepare, single.quantize, single.evaluate),
    "Models": (models.chat, models.serve_command, latency.bench, models.promote, models.export, models.push),
    "Servers": (
        machine.up,
        operate.deploy,
        operate.schedule,
        operate.schedules,
        operate.unschedule,
        models.sync,
        machine.doctor,
    ),
}
for group, commands in GROUPS.items():
    for command in commands:
        app.command(rich_help_panel=group)(command)


VALUES = (
    (r"Input should be a valid integer.*", "it must be a whole number"),
    (r"Input should be a valid number.*", "it must be a number"),
    (r"Input should be greater than or equal to (\S+)", r"it must be at least \1"),
    (r"Input should be less than or equal to (\S+)", r"it must be at most \1"),
    (r"Input should be", "it must be"),
)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"imbik {importlib.metadata.version('imbik')}, Python {platform.python_version()}", highlight=False)
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compress a large language model into small ones: prune, distil, quantize, evaluate."""


def main() -> NoReturn:
    """Run the command line; user errors end with one sentence and exit code 2, without a traceback."""
    text_is_utf8()
    settle()
    signal.signal(signal.SIGTERM, _terminated)
    stopped = "stopped; run the same command to continue"
    try:
        code = app(standalone_mode=False)  # typer returns a code for Ctrl-C and Exit
    except SystemExit as error:
        if error.code == TERMINATED:
            fail(stopped, TERMINATED)
        raise  # raised by typer when the output pipe is closed
    except (typer.Abort, KeyboardInterrupt):
        fail(stopped, CTRL_C)
    except Exception as error:
        # typer's errors are usage errors; ValueError is a user error; anything else is a bug and keeps its traceback.
        if format_message := getattr(error, "format_message", None):
            fail(_in_words(format_message()))
        if isinstance(error, ValueError) or type(error).__name__ == "JobFailed":
            mistake = isinstance(error, ValueError) or getattr(error, "reason", None) == "mistake"
            fail(" ".join(str(error).split()), 2 if mistake else 1)
        if isinstance(error, OSError) and error.filename:  # a file or folder that this user may not read or write
            fail(f"{error.filename}: {error.strerror}; check the path, its permissions and free space")
        raise
    if code == CTRL_C:
        fail(stopped, CTRL_C)
    sys.exit(code or 0)


def _in_words(usage_error: str) -> str:
    """Typer's message about a value, which is pydantic's, in the words of the rest."""
    for pattern, words in VALUES:
        usage_error = re.sub(pattern, words, usage_error)
    return usage_error


def _terminated(number: int, frame: Any) -> NoReturn:
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    main()
