"""Folders of checkpoints, whatever they hold: a checkpoint exists once it has its final name, with digests of all its
files.

It owns names, digests, syncing and how many are kept; what is in a checkpoint its writer knows.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from conf.files import sha256, sync_folder

STATE = "state.json"
"""Written last: the writer's own notes under "step" and other names, sha256 of every other file, and of this file's own
content."""


def publish(folder: Path, step: int, kept: int, write: Callable[[Path], dict[str, Any]]) -> None:
    """Make the checkpoint of `step`: `write` fills a hidden folder and returns its notes. All of it is on the disk
    before it gets its name; then only the newest `kept` stay. A write that fails leaves nothing and raises."""
    for leftover in folder.glob(".*"):  # of a process that was killed
        shutil.rmtree(leftover)
    partial = folder / f".partial-{step}"
    partial.mkdir(parents=True)
    try:
        notes = write(partial)
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        with ThreadPoolExecutor() as pool:
            digests = dict(
                zip(
                    (str(path.relative_to(partial)) for path in files),
                    pool.map(lambda path: sha256(path, sync=True), files),
                    strict=True,
                )
            )
        content = {"step": step} | notes | {"digests": digests}
        (partial / STATE).write_text(json.dumps(content | {"sha256": _sum(content)}))
        sha256(partial / STATE, sync=True)
        for inner in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
            sync_folder(inner)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder / f"step-{step:08d}")
    sync_folder(folder)
    for old in existing(folder)[:-kept]:
        shutil.rmtree(old.rename(folder / f".old-{old.name}"))


def newest_sound(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole, with its notes; None where there is none at all. Newer ones, all damaged,
    are renamed.

    Raises ValueError where there are checkpoints but none is whole: a run must not begin again over them by itself.
    """
    damaged: list[tuple[Path, str]] = []
    for candidate in reversed(existing(folder)):
        try:
            notes = _read(candidate)
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged.append(
                (
                    candidate,
                    f"{type(error).__name__}: {error}" if isinstance(error, KeyError | TypeError) else str(error),
                )
            )
            print(f"checkpoint {candidate.name} is damaged ({damaged[-1][1]}); trying the one before it")
            continue
        for path, _ in damaged:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        return candidate, notes
    if damaged:
        told = "; ".join(f"{path.name}: {fault}" for path, fault in damaged)
        raise ValueError(
            f"none of the checkpoints in {folder} is whole ({told}); remove that folder to begin this stage again from"
            " step 0"
        )
    return None


def existing(folder: Path) -> list[Path]:
    """Checkpoints by their step, the oldest first, damaged ones too."""
    return sorted(folder.glob("step-*"))


def _read(checkpoint: Path) -> dict[str, Any]:
    """The notes of a checkpoint, after comparing every file with its digest."""
    content: dict[str, Any] = json.loads((checkpoint / STATE).read_text())
    if content.pop("sha256") != _sum(content) or checkpoint.name != f"step-{content['step']:08d}":
        raise ValueError(f"{STATE} does not have the content that was written")
    names = list(content["digests"])
    with ThreadPoolExecutor() as pool:
        for name, digest in zip(names, pool.map(lambda name: sha256(checkpoint / name), names), strict=True):
            if digest != content["digests"][name]:
                raise ValueError(f"{name} does not have the content that was written")
    return content


def _sum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
