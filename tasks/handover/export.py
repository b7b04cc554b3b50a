"""Copies a model of a run as plain files: the published folders hold links into the store, which dangle elsewhere."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from conf.files import PARTIAL, sha256, sync_folder
from conf.paths import check_allowed
from conf.spec import Record
from tasks.store.runs import model_of
from tasks.store.store import RECORD, StoreError


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A folder of copied files."""

    folder: Path
    files: int
    bytes: int


def export(root: Path, target: str, folder: Path) -> Exported:
    """Copy RUN/MODEL with its model card into a folder that does not exist yet or is empty. Files that changed since
    they were sealed are refused, and nothing is left where copying fails."""
    folder = folder.expanduser().absolute()
    check_allowed(folder)
    sources = files(root, target)
    if folder.is_dir() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty; choose another folder")
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; choose a folder")
    partial = folder.with_name(f".{folder.name}{PARTIAL}")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a killed export
        partial.mkdir(parents=True)
        for source in sources:
            shutil.copyfile(source, partial / source.name)
        folder.mkdir(exist_ok=True)
        partial.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StoreError(f"{folder} cannot be written ({error.strerror}); free space or choose another folder") from (
            error
        )
    return Exported(folder=folder, files=len(sources), bytes=sum(path.stat().st_size for path in folder.iterdir()))


def files(root: Path, target: str) -> list[Path]:
    """The files of RUN/MODEL: those of its published folder with the card, else of the model itself. Raises StoreError
    where they are gone or damaged."""
    model = model_of(root, target)
    folder = model.published if model.published.is_dir() else Path(model.row.path)
    paths = sorted(path for path in folder.glob("*") if not path.is_dir())
    gone = next((path for path in paths if not path.is_file()), None)
    if gone or not paths:
        raise StoreError(f"the files of {target} are no longer in the store {root}; run its recipe again, then export")
    for path in paths:
        _check(path.resolve(), target)
    return paths


def _check(path: Path, target: str) -> None:
    """Raise StoreError for a sealed file whose content has changed."""
    artifact = next((folder for folder in path.parents if (folder / RECORD).is_file()), None)
    if artifact is None:
        return  # the card and the licence, which belong to the run
    sealed = Record.model_validate_json((artifact / RECORD).read_text(encoding="utf-8")).files
    file = sealed.get(str(path.relative_to(artifact)))
    if file is None or file.sha256 != sha256(path):
        raise StoreError(f"{path} of {target} has changed since it was sealed; run its recipe again, then export")
