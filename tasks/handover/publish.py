"""Publishes students in `runs/<run>/published/<model>`: links to the sealed files, and a model card.

Sealed artifacts never change, so the card, which quotes the report, is not part of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from conf.recipe import Recipe
from conf.report.report import Report
from conf.report.row import Row
from tasks.handover import card
from tasks.handover.licences import Licence
from tasks.store.runs import PUBLISHED as FOLDER


def publish(folder: Path, recipe: Recipe, report: Report) -> None:
    """Write the folders of all student models atomically, replacing those of an earlier run of the same name."""
    published, partial = folder / FOLDER, folder / f".{FOLDER}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    for row in report.rows:
        student = row.student
        if student in recipe.students and (row.stage != "prune" or recipe.stages_of(student) == ("prune",)):
            _one(partial / row.model, published / row.model, recipe, report, row)
    if published.exists():
        old = folder / f".{FOLDER}-old-{os.getpid()}"
        published.rename(old)
        shutil.rmtree(old)
    if partial.exists():
        partial.rename(published)


def _one(folder: Path, final: Path, recipe: Recipe, report: Report, row: Row) -> None:
    folder.mkdir(parents=True)
    for file in sorted(Path(row.path).iterdir()):
        if file.is_file():
            (folder / file.name).symlink_to(os.path.relpath(file, final))
    text, licence = card.write(recipe, report, row)
    (folder / "README.md").unlink(missing_ok=True)
    (folder / "README.md").write_text(text)
    terms(folder, licence)


def terms(folder: Path, licence: Licence) -> None:
    """Copy a teacher's licence text, and its NOTICE file, which some licences require."""
    for path in (licence.text, licence.text and licence.text.with_name("NOTICE")):
        if path and path.is_file() and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
