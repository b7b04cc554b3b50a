"""Creates the SQLite databases of a store atomically, because servers cannot start with an incomplete one.

Creating one runs all migrations of its server, which takes seconds. So it is done once per installation, and stores get
copies."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from conf.environment import NO_TELEMETRY
from conf.files import PARTIAL, replacing
from tasks.store.locks import held

Kind = Literal["prefect", "mlflow"]
EMPTY = Path(sys.prefix) / "share" / "imbik"
"""Folder of the installation's empty databases; if it is not writable, each store creates its own."""
ARTIFACTS = "mlflow-artifacts"
"""Folder in the store of the files that MLflow shows."""
CONTENT = {"prefect": {"flow_run", "deployment", "block_document", "variable"}, "mlflow": {"runs", "registered_models"}}
"""Tables of what a database is kept for: one without rows there can be made again."""
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
    """Ensure that there is a whole database of this kind at `path`. Raises OSError."""
    if (path in _seen and path.exists()) or (path.exists() and _is_whole(path, kind)):
        _seen.add(path)
        return
    with held(path.parent / f".{kind}.lock"):
        if path.exists() and not _is_whole(path, kind):
            _set_aside(path, kind)
        if not path.exists():
            empty = _empty(kind)
            with _replacing_alone(path, kind) as partial:
                if empty:
                    shutil.copyfile(empty, partial)
                else:
                    _make(kind, partial)
        _seen.add(path)


_seen: set[Path] = set()
"""Databases that this process has found whole."""


def _is_whole(path: Path, kind: Kind) -> bool:
    """Whether all migrations of a database were run, or it holds runs: its server upgrades those or says what to do.
    An old version of imbik, or the server itself, may have been killed while it made it."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=60)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if any(database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in tables & CONTENT[kind]):
                return True
            if "alembic_version" not in tables:
                return False
            reached = database.execute("SELECT * FROM alembic_version").fetchall()
    except sqlite3.OperationalError:  # it is locked or cannot be read, which its server tells better
        return True
    except sqlite3.DatabaseError:  # not a database
        return False
    return bool(reached) and reached == _version(kind)


def _version(kind: Kind) -> list[tuple[str, ...]]:
    """The migration that a new database of this kind has reached."""
    empty = _empty(kind)
    if empty is None:
        with tempfile.TemporaryDirectory() as folder:
            _make(kind, Path(folder) / "new.db")
            return _version_of(Path(folder) / "new.db")
    return _version_of(empty)


def _version_of(path: Path) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        return list(database.execute("SELECT * FROM alembic_version"))


def _set_aside(path: Path, kind: Kind) -> None:
    """Move a half-made database away, with what SQLite keeps beside it."""
    aside = path.with_name(f"{path.name}.half-made-{time.time_ns()}")
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    print(f"{path} was only half made and had no runs; it was moved to {aside}, and a new {kind} database is made")


def settle_here(path: Path) -> None:
    """Let the places of MLflow's artifacts in a store's database follow the store, which may have been copied, renamed
    or mounted elsewhere: MLflow keeps them as absolute URLs and would write to the old place."""
    here = (path.parent / ARTIFACTS).as_uri()
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as database, database:
        known = [place for (place,) in database.execute("SELECT DISTINCT artifact_location FROM experiments") if place]
        for old in (place for place in known if place.endswith(f"/{ARTIFACTS}") and place != here):
            for table, column in (
                ("experiments", "artifact_location"),
                ("runs", "artifact_uri"),
                ("logged_models", "artifact_location"),
                ("model_versions", "storage_location"),
            ):
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                    f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (here, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )


def _empty(kind: Kind) -> Path | None:
    """The installation's empty database, created if missing; None if its folder is not writable."""
    path = EMPTY / f"{kind}-{importlib.metadata.version(kind)}.db"
    if path.exists():
        return path
    try:
        EMPTY.mkdir(parents=True, exist_ok=True)
        with held(EMPTY / f".{kind}.lock"):
            if not path.exists():
                with _replacing_alone(path, kind) as partial:
                    _make(kind, partial)
    except OSError as error:
        if error.errno:  # not writable, or its disk is full
            return None
        raise
    return path


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
        process = subprocess.run(
            MAKING[kind], env=environment, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False
        )
        if process.returncode:
            last = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise OSError(f"the {kind} database could not be created ({last[:200]}); run the same command again")
        target.touch()  # with the rights that other files get; SQLite gives its own to new ones
        with contextlib.closing(sqlite3.connect(database_file)) as database:
            if kind == "mlflow":  # its default experiment has the path of the temporary folder; MLflow recreates it
                database.execute("DELETE FROM experiments")
                database.commit()
            database.execute("VACUUM INTO ?", (str(target),))
