"""Removes runs, and artifacts that no run needs.

What is removed is first renamed out of sight, so that a killed removal leaves no half of anything; the next one
finishes it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from conf.paths import check_allowed
from conf.stages import stages
from tasks.store import use
from tasks.store.runs import REPORT
from tasks.store.store import RECORD, StoreError, read_record

REMOVED = "removed-"
DAMAGED = "damaged-"
Why = Literal["no run links it", "left by an interrupted removal", "damaged, moved aside", "not finished"]


@dataclass(frozen=True, kw_only=True)
class Freed:
    """A folder that can be removed: what it is, why, and its size in bytes."""

    path: Path
    stage: str
    why: Why
    bytes: int


def remove_run(root: Path, run: str) -> int:
    """Remove a run's folder: its report and links, never an artifact. Returns the number of files and links. Raises
    StoreError if there is no such run or it is running."""
    check_allowed(root)
    folder = existing(root, run)
    with use.not_running(root, run):
        count = sum(1 for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
        _discard(folder, folder.parent / f".{REMOVED}{run}-{time.time_ns()}")
    return count


def existing(root: Path, run: str) -> Path:
    """The folder of a run, finished or not. Raises StoreError, naming the runs there are."""
    folder = root / "runs" / run
    if not run or run.startswith(".") or "/" in run or not folder.is_dir():
        names = ", ".join(names_of(root)) or "none"
        raise StoreError(f"there is no run {run} in {root}; runs: {names}")
    return folder


def names_of(root: Path) -> list[str]:
    """Names of all runs, finished or not."""
    return sorted(path.name for path in (root / "runs").glob("[!.]*") if path.is_dir())


def removable(root: Path, *, unfinished: bool = False) -> list[Freed]:
    """What `clean` would remove, largest first: artifacts that no run and no registered model version needs, leftovers,
    and with `unfinished` the work folders of stages that did not finish, with their checkpoints."""
    needed = _needed(root)
    found = [
        Freed(path=path, stage=path.parent.name, why="no run links it", bytes=_bytes(path))
        for path in _artifacts(root)
        if path not in needed
    ]
    found += [
        Freed(path=path, stage="runs", why="left by an interrupted removal", bytes=_bytes(path))
        for path in (root / "runs").glob(f".{REMOVED}*")
    ]
    for path in (root / use.WORK).glob("*"):
        stage, why = path.name.rpartition("-")[0], _why(path)
        if why and (unfinished or why != "not finished"):
            found.append(Freed(path=path, stage=stage, why=why, bytes=_bytes(path)))
    return sorted(found, key=lambda freed: (-freed.bytes, str(freed.path)))


def clean(root: Path, *, unfinished: bool = False) -> list[Freed]:
    """Remove what `removable` names; returns it. Raises StoreError while a flow uses the store."""
    check_allowed(root)
    if not (root / use.WORK).is_dir():
        return []
    with use.unused(root):
        freed = removable(root, unfinished=unfinished)
        for each in freed:
            _discard(each.path, root / use.WORK / f"{REMOVED}{each.path.name}-{time.time_ns()}")
    return freed


def _why(path: Path) -> Why | None:
    """Why a folder of `.work` is not needed; None for files and folders that are not a stage's."""
    if not path.is_dir():
        return None
    if path.name.startswith(REMOVED):
        return "left by an interrupted removal"
    if path.name.startswith(DAMAGED):
        return "damaged, moved aside"
    return "not finished" if path.name.rpartition("-")[0] in stages() else None


def _artifacts(root: Path) -> Iterator[Path]:
    """Sealed artifacts: nothing else in a store is ever removed."""
    for stage in sorted(stages()):
        yield from (record.parent.resolve() for record in (root / stage).glob(f"[!.]*/{RECORD}"))


def _needed(root: Path) -> set[Path]:
    """Artifacts that runs link or their reports name, registered model versions, and what all of these were made
    from."""
    todo = [path for run in names_of(root) for path in _named_by(root / "runs" / run)] + list(_registered(root))
    by_key = {path.name: path for path in _artifacts(root)}
    needed: set[Path] = set()
    while todo:
        path = todo.pop()
        artifact = next((folder for folder in (path, *path.parents) if by_key.get(folder.name) == folder), None)
        if artifact is None or artifact in needed:
            continue
        needed.add(artifact)
        record = read_record(artifact / RECORD)
        todo += [by_key[key] for key in (record.inputs.values() if record else ()) if key in by_key]
    return needed


def _named_by(folder: Path) -> Iterator[Path]:
    """Where a run's links lead, published files included, and the paths in its report."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            yield path.resolve()
    with contextlib.suppress(OSError, ValueError):  # no report yet, or of another version: its links remain
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        yield from (Path(row["path"]).resolve() for row in _rows(report))


def _rows(report: object) -> Iterable[dict[str, str]]:
    rows = report.get("rows", []) if isinstance(report, dict) else []
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("path"), str)]


def _registered(root: Path) -> Iterator[Path]:
    """Model directories of the versions in the store's own MLflow registry."""
    database = root / "mlflow.db"
    if not database.is_file():
        return
    with (
        contextlib.suppress(sqlite3.OperationalError),  # MLflow has not made its tables yet
        contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection,
    ):
        for (value,) in connection.execute("SELECT value FROM model_version_tags WHERE key = 'imbik.uri'"):
            yield Path(str(value).removeprefix("file://")).resolve()


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def _discard(folder: Path, aside: Path) -> None:
    try:
        folder.rename(aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be removed ({error.strerror}: {error.filename}); check its permissions, then try again"
        ) from error
