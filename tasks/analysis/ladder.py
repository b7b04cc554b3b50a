"""The ladder of formats: from the report's paired differences to the format that each student keeps; its section, and a
link to it.

Every rung is made and scored, side by side with the others; the choice is read off afterwards, so that it never waits
for a score."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from conf.ladder import LadderConfig
from conf.recipe import Recipe

Ladder = dict[str, dict[str, Any]]


def climb(recipe: Recipe, rows_made: list[dict[str, Any]]) -> Ladder:
    """For each student its rungs in order, with what each lost and whether that is inside the bound, and the model kept
    (None: none)."""
    config = recipe.ladder
    if config is None:
        return {}
    rows = {(row["student"], row["format"]): row for row in rows_made if row["stage"] == "quantize"}
    students = dict.fromkeys(student for student, _ in rows)
    found: Ladder = {}
    for student in students:
        rungs = [_rung(config, rows[student, form]) for form in config.formats if (student, form) in rows]
        inside = [rung["model"] for rung in rungs if rung["inside"]]
        found[student] = {"rungs": rungs, "kept": inside[-1] if inside else None}
    return {student: told for student, told in found.items() if told["rungs"]}


def _rung(config: LadderConfig, row: dict[str, Any]) -> dict[str, Any]:
    """What one format lost against its student: an estimate, and for the score the worse end of its paired interval."""
    against = row["against_student"] or row["against_teacher"]
    lost: float | None
    worst: float | None
    if config.metric == "val_loss":
        lost = worst = against["val_loss"]
    else:
        lost = None if against["mmlu"] is None else -against["mmlu"]
        worst = None if against["mmlu"] is None else -against["mmlu_ci95"][0]
    judged = worst if config.confident else lost
    inside = judged is not None and judged <= config.bound
    return {
        "model": row["model"],
        "bytes": row["bytes"],
        "lost": lost,
        "worst": worst,
        "inside": inside,
        "path": row["path"],
    }


def link(folder: Path, ladder: Ladder) -> None:
    """`kept-<student>` in the run's folder: the model that its student keeps."""
    for student, told in ladder.items():
        name = folder / f"kept-{student}"
        name.unlink(missing_ok=True)
        path = next((rung["path"] for rung in told["rungs"] if rung["model"] == told["kept"]), None)
        if path:
            name.symlink_to(os.path.relpath(path, folder))
