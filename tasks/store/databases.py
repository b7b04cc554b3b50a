"""Creates the SQLite databases of a store atomically, because servers cannot start with an incomplete one.

Creating one runs all migrations of its server, which takes seconds. So it is done once per installation, and stores get
copies."""

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

from conf.environment import NO_TELEMETRY
from conf.files import PARTIAL, replacing

Kind = Literal["prefect", "mlflow"]
EMPTY = Path(sys.prefix) / "share" / "imbik"
"""Folder of the installation's empty databases; if it is not writable, each store creates its own."""
MAKING = {
    "prefect": [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
    "mlflow": [
        sys.executable,
        "-c",
        "import os, mlflow; mlflow.MlflowClient(os.environ['URL']).search_experiments(max_results=1)",
    ],
}
FOREIGN = ("PREFECT", "MLFLOW")
"""Prefixes of environment variables that configure other servers."""


def ready(path: Path, kind: Kind) -> None:
    """Ensure that there is a database of this kind at `path`. Raises OSError."""
    if path.exists():
        return
    with _held(path.parent / f".{kind}.lock"):
        if not path.exists():
            empty = _empty(kind)
            with _replacing_alone(path, kind) as partial:
                if empty:
                    shutil.copyfile(empty, partial)
                else:
                    _make(kind, partial)


def _empty(kind: Kind) -> Path | None:
    """The installation's empty database, created if missing; None if its folder is not writable."""
    path = EMPTY / f"{kind}-{importlib.metadata.version(kind)}.db"
    if path.exists():
        return path
    try:
        EMPTY.mkdir(parents=True, exist_ok=True)
        with _held(EMPTY / f".{kind}.lock"):
            if not path.exists():
                with _replacing_alone(path, kind) as partial:
                    _make(kind, partial)
    except OSError as error:
        if error.errno:  # not writable, or its disk is full
            return None
        raise
    return path


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _replacing_alone(path: Path, kind: Kind) -> Iterator[Path]:
    """As `replacing`, by the holder of the lock of this kind: removes what a killed holder left."""
    for leftover in path.parent.glob(f".{path.name}.*{PARTIAL}"):
        leftover.unlink()
    for leftover in path.parent.glob(f".making-{kind}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with replacing(path) as partial:
        yield partial


def _make(kind: Kind, target: Path) -> None:
    """Let the library create its database in a temporary folder, and write it to `target` as one file."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".making-{kind}-") as folder:
        database_file = Path(folder) / "made.db"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        environment |= {
            "PREFECT_HOME": folder,
            "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database_file}",
        }
        environment |= NO_TELEMETRY | {
            "URL": f"sqlite:///{database_file}",
            "GIT_PYTHON_REFRESH": "quiet",
            "PYTHONWARNINGS": "ignore",
        }
        process = subprocess.run(MAKING[kind], env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if process.returncode:
            last = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise OSError(f"the {kind} database could not be created ({last[:200]}); run the same command again")
        with contextlib.closing(sqlite3.connect(database_file)) as database:
            if kind == "mlflow":  # its default experiment has the path of the temporary folder; MLflow recreates it
                database.execute("DELETE FROM experiments")
                database.commit()
            database.execute("VACUUM INTO ?", (str(target),))
