"""The students as they are handed over: `runs/<run>/published/<model>`, the sealed files by link beside a model card of
their own.

Sealed artifacts never change; the card says what the report found, so that it is written with the report.
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
    """Make the folder of every student's models, whole or not at all; models of an earlier run of the name that are
    gone go too."""
    whole, partial = folder / FOLDER, folder / f".{FOLDER}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    for row in report.rows:
        student = row.student
        if student in recipe.students and (row.stage != "prune" or recipe.stages_of(student) == ("prune",)):
            _one(partial / row.model, whole / row.model, recipe, report, row)
    if whole.exists():
        old = folder / f".{FOLDER}-old-{os.getpid()}"
        whole.rename(old)
        shutil.rmtree(old)
    if partial.exists():
        partial.rename(whole)


def _one(place: Path, final: Path, recipe: Recipe, report: Report, row: Row) -> None:
    place.mkdir(parents=True)
    for file in sorted(Path(row.path).iterdir()):
        if file.is_file():
            (place / file.name).symlink_to(os.path.relpath(file, final))
    text, licence = card.write(recipe, report, row)
    (place / "README.md").unlink(missing_ok=True)
    (place / "README.md").write_text(text)
    terms(place, licence)


def terms(place: Path, licence: Licence) -> None:
    """Copy a teacher's licence text, and the notice beside it that some licences want passed on."""
    for path in (licence.text, licence.text and licence.text.with_name("NOTICE")):
        if path and path.is_file() and not (place / path.name).exists():
            shutil.copyfile(path, place / path.name)
