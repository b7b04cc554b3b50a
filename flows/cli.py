"""The command `imbik`: assembles the commands of `flows.commands` and reports errors as one sentence and an exit
code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from conf.environment import settle, text_is_utf8
from flows.commands import deploy as operate
from flows.commands import models, nemo, plan, run
from flows.commands import runs as look
from flows.commands import server as machine
from flows.commands import standalone as single
from flows.commands.console import fail

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compress a large language model into small ones: prune, distil, quantize, evaluate.",
)
CTRL_C, TERMINATED = 130, 143
COMMANDS: tuple[Callable[..., None], ...] = (
    *(
        run.run,
        plan.plan,
        single.quantize,
        single.evaluate,
        single.prepare,
        single.compare,
        look.presets,
        look.runs,
        look.report,
        look.schema,
    ),
    *(models.promote, models.serve_command, models.chat, models.push, models.sync),
    *(
        machine.doctor,
        machine.up,
        operate.deploy,
        operate.schedule,
        operate.schedules,
        operate.unschedule,
        nemo.nemo_commands,
    ),
)
for command in COMMANDS:
    app.command()(command)


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
            fail(format_message())
        if isinstance(error, ValueError) or type(error).__name__ == "JobFailed":
            fail(" ".join(str(error).split()), 2 if isinstance(error, ValueError) else 1)
        raise
    if code == CTRL_C:
        fail(stopped, CTRL_C)
    sys.exit(code or 0)


def _terminated(number: int, frame: Any) -> NoReturn:
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    main()
