"""Folders of checkpoints, whatever they hold: a checkpoint exists once it has its final name, with digests of all its
files.

Owns names, digests, syncing and the number kept; the contents of a checkpoint are its writer's business."""

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
"""Written last: the writer's notes beside "step", sha256 of every other file, and of this file's own content."""


def publish(folder: Path, step: int, keep: int, write: Callable[[Path], dict[str, Any]]) -> None:
    """Write the checkpoint of `step` alone: `write` fills a hidden folder and returns its notes. A failed write leaves
    nothing and raises."""
    partial = begin(folder, step)
    try:
        notes = write(partial)
        seal(partial, keep, notes, digests(partial, [path for path in partial.rglob("*") if path.is_file()]))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def begin(folder: Path, step: int) -> Path:
    """A hidden folder to fill with the checkpoint of `step`; what a killed process left is removed."""
    for leftover in (*folder.glob(".partial-*"), *folder.glob(".old-*")):  # not .nfs*, which come back while open
        shutil.rmtree(leftover)
    partial = partial_of(folder, step)
    partial.mkdir(parents=True)
    return partial


def partial_of(folder: Path, step: int) -> Path:
    """The hidden folder of a checkpoint that is being written."""
    return folder / f".partial-{step}"


def digests(partial: Path, files: list[Path]) -> dict[str, str]:
    """sha256 of files in a hidden folder by their paths in it, after syncing them to disk."""
    names = sorted(str(path.relative_to(partial)) for path in files)
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: sha256(partial / name, sync=True), names), strict=True))


def seal(partial: Path, keep: int, notes: dict[str, Any], digests: dict[str, str], every: int | None = None) -> None:
    """Give a full hidden folder, whose files have `digests` and are on disk, its name; then only the newest `keep`
    stay, and the newest of a step that `every` divides."""
    folder, step = partial.parent, int(partial.name.rpartition("-")[2])
    content = {"step": step} | notes | {"digests": digests}
    (partial / STATE).write_text(json.dumps(content | {"sha256": _content_digest(content)}))
    sha256(partial / STATE, sync=True)
    for directory in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
        sync_folder(directory)
    partial.rename(folder / f"step-{step:08d}")
    sync_folder(folder)
    points = [path for path in existing(folder) if every and step_of(path) % every == 0]
    for old in (path for path in existing(folder)[:-keep] if path not in points[-1:]):
        shutil.rmtree(old.rename(folder / f".old-{old.name}"))


def keep(folder: Path, step: int, state: Path) -> None:
    """Make the checkpoint of `step` the content of the folder `state`, which outlives the job's other checkpoints."""
    shutil.rmtree(state, ignore_errors=True)  # of a job that was killed
    shutil.copytree(folder / f"step-{step:08d}", state / f"step-{step:08d}", copy_function=shutil.copy2)


def newest_sound(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest undamaged checkpoint with its notes; None where there are no checkpoints. Newer, damaged ones are
    renamed.

    Raises ValueError where every checkpoint is damaged: a run must not silently start over."""
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
            print(f"checkpoint {candidate.name} is damaged ({damaged[-1][1]}); trying the previous one")
            continue
        for path, _ in damaged:
            renamed = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(renamed, ignore_errors=True)
            path.rename(renamed)
        return candidate, notes
    if damaged:
        reasons = "; ".join(f"{path.name}: {fault}" for path, fault in damaged)
        raise ValueError(
            f"every checkpoint in {folder} is damaged ({reasons}); remove that folder to restart this stage from step 0"
        )
    return None


def existing(folder: Path) -> list[Path]:
    """Checkpoints by step, oldest first, damaged ones included."""
    return sorted(folder.glob("step-*"))


def step_of(checkpoint: Path) -> int:
    """The step after which it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def forget(folder: Path, step: int) -> None:
    """Remove the checkpoints of steps after `step`."""
    for path in existing(folder):
        if step_of(path) > step:
            shutil.rmtree(path.rename(folder / f".old-{path.name}"))


def _read(checkpoint: Path) -> dict[str, Any]:
    """The notes of a checkpoint; every file must match its digest."""
    content: dict[str, Any] = json.loads((checkpoint / STATE).read_text())
    if content.pop("sha256") != _content_digest(content) or checkpoint.name != f"step-{content['step']:08d}":
        raise ValueError(f"{STATE} has changed since it was written")
    names = list(content["digests"])
    with ThreadPoolExecutor() as pool:
        for name, digest in zip(names, pool.map(lambda name: sha256(checkpoint / name), names), strict=True):
            if digest != content["digests"][name]:
                raise ValueError(f"{name} has changed since it was written")
    return content


def _content_digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
