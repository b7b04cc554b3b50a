"""The first command of a fresh store and installation, killed at one of twenty moments: the next one finds or makes
whole databases. A moment takes half a minute, so continuous integration tries every seventh; MOMENTS=1 tries all."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.flow import RECIPE

pytestmark = pytest.mark.drill

FIRST = """
import sys
from pathlib import Path
from tasks.store import databases
databases.EMPTY = Path(sys.argv.pop(1))
from flows.cli import main
main()
"""
"""`imbik` of an installation that has not made its empty databases yet."""
EACH = int(os.environ.get("MOMENTS", "7"))
MOMENTS = [round(0.5 + 0.75 * number, 2) for number in range(0, 20, EACH)]
"""Seconds after the start: the libraries are imported, both databases are made, the server starts, the run begins."""


def started(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))}
    environment |= {"PYTHONPATH": str(RECIPE.parents[2]), "HOME": str(folder)}
    command = [sys.executable, "-c", FIRST, str(folder / "installation"), *arguments, "--store", str(folder / "store")]
    with (folder / f"{name}.txt").open("wb") as stream:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=stream)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_first_command_leaves_a_store_that_works(moment: float, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("".join(f"A fox told story {number}.\n" for number in range(200)))
    prepare = ("prepare", "text.txt", "vocab_size=300")
    first = started(tmp_path, "first", *prepare)
    time.sleep(moment)
    first.send_signal(signal.SIGKILL)
    first.wait()
    for name, arguments in (("second", prepare), ("third", ("sync",))):  # a busy machine sends later
        assert started(tmp_path, name, *arguments).wait(600) == 0, (tmp_path / f"{name}.txt").read_text()
    for name, table in (("mlflow.db", "runs"), ("prefect/prefect.db", "flow_run")):
        with sqlite3.connect(tmp_path / "store" / name) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] >= 1
    assert not list((tmp_path / "store").rglob("*.half-made-*")), "nothing half made got the database's name"
