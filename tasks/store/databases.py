"""The SQLite databases of a store, made whole beside their place and then put there: half made, none of them would
start again.

Making one runs all the migrations its server ever had, seconds of a core. So it is done once for an installation, and
stores get copies."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from conf.files import replacing

Kind = Literal["prefect", "mlflow"]
EMPTY = Path(sys.prefix) / "share" / "imbik"
"""Where an installation keeps its empty databases; where it cannot be written, each store makes its own."""
MAKING = {
    "prefect": [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
    "mlflow": [
        sys.executable,
        "-c",
        "import os, mlflow; mlflow.MlflowClient(os.environ['URL']).search_experiments(max_results=1)",
    ],
}
FOREIGN = ("PREFECT", "MLFLOW")
"""Settings of servers elsewhere begin so."""


def ready(path: Path, kind: Kind) -> None:
    """See to it that a database of this kind is at `path`. Raises OSError where it cannot be."""
    if path.exists():
        return
    with _held(path.parent / f".{kind}.lock"):
        if not path.exists():
            empty = _empty(kind)
            with replacing(path) as partial:
                if empty:
                    shutil.copyfile(empty, partial)
                else:
                    _make(kind, partial)


def _empty(kind: Kind) -> Path | None:
    """The installation's empty database, made where it is missing; None where it has no place for one."""
    path = EMPTY / f"{kind}-{importlib.metadata.version(kind)}.db"
    if path.exists():
        return path
    try:
        EMPTY.mkdir(parents=True, exist_ok=True)
        with _held(EMPTY / f".{kind}.lock"):
            if not path.exists():
                with replacing(path) as partial:
                    _make(kind, partial)
    except OSError as error:
        if error.errno:  # it may not be written, or its disk is full
            return None
        raise
    return path


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _make(kind: Kind, target: Path) -> None:
    """Let the library make its database in a folder of its own, and write it to `target` as one file."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "made.db"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        environment |= {"PREFECT_HOME": folder, "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{made}"}
        environment |= {
            "URL": f"sqlite:///{made}",
            "DO_NOT_TRACK": "1",
            "GIT_PYTHON_REFRESH": "quiet",
            "PYTHONWARNINGS": "ignore",
        }
        done = subprocess.run(MAKING[kind], env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise OSError(f"the database of {kind} could not be made ({last[:200]}); run the same command again")
        with contextlib.closing(sqlite3.connect(made)) as database:
            if kind == "mlflow":  # it names the folder that it was made in, and is made anew where it is missing
                database.execute("DELETE FROM experiments")
                database.commit()
            database.execute("VACUUM INTO ?", (str(target),))
