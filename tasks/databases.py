"""The SQLite databases of a store, made whole beside their place and then put there: half made, none of them would start again.

Making one runs all the migrations its server ever had, seconds of a core for each new store. An installation therefore makes them once,
`python -m tasks.databases`, and a store gets copies; where that was not done, the store's own are made.
"""

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
from pathlib import Path
from typing import Literal

Kind = Literal["prefect", "mlflow"]
TEMPLATES = Path(sys.prefix) / "share" / "imbik"
MAKING = {
    "prefect": [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
    "mlflow": [sys.executable, "-c", "import os, mlflow; mlflow.MlflowClient(os.environ['URL']).search_experiments(max_results=1)"],
}
FOREIGN = ("PREFECT", "MLFLOW")
"""Settings of servers elsewhere begin so."""


def ready(path: Path, kind: Kind) -> None:
    """See to it that a database of this kind is at `path`. Raises OSError where it cannot be written."""
    if path.exists():
        return
    with (path.parent / f".{kind}.making").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            partial = path.with_name(f".{path.name}.partial")
            partial.unlink(missing_ok=True)  # of one that was killed
            template = _template(kind)
            if template.exists():
                shutil.copyfile(template, partial)
            else:
                _make(kind, partial)
            partial.replace(path)


def _template(kind: Kind) -> Path:
    return TEMPLATES / f"{kind}-{importlib.metadata.version(kind)}.db"


def _make(kind: Kind, target: Path) -> None:
    """Let the library make its database in a folder of its own, and write it to `target` as one file."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "made.db"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        environment |= {"PREFECT_HOME": folder, "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{made}"}
        environment |= {"URL": f"sqlite:///{made}", "DO_NOT_TRACK": "1", "GIT_PYTHON_REFRESH": "quiet", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(MAKING[kind], env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise OSError(f"the database of {kind} could not be made ({last[:200]}); run the same command again")
        with contextlib.closing(sqlite3.connect(made)) as database:
            if kind == "mlflow":  # it holds the path of the folder it was made in, and is made anew where it is missing
                database.execute("DELETE FROM experiments")
                database.commit()
            database.execute("VACUUM INTO ?", (str(target),))


def main() -> None:
    """Make the databases of this installation that it does not have."""
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    for kind in MAKING:
        ready(_template(kind), kind)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
