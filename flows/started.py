"""How the running flow was started: its command line or deployment, and this machine."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path

from conf.secrets import masker
from flows.doctor import processor

PROGRAMS = ("imbik", "cli.py")
"""Names of the program where the command line started the flow."""


def command() -> str:
    """The command line, with secrets masked, or the deployment or flow that started this flow run."""
    from prefect.runtime import deployment, flow_run

    if deployment.name:
        return f"Prefect's deployment {flow_run.flow_name}/{deployment.name}"
    if Path(sys.argv[0]).name in PROGRAMS:
        return masker(os.environ)(shlex.join(["imbik", *sys.argv[1:]]))
    return f"the flow {flow_run.flow_name}, from Python"


def machine() -> str:
    """Host name, cores and processor."""
    return f"{platform.node()}, {os.cpu_count()} cores of {processor.kind()}"
