"""The ladder of formats: from the report's paired differences to the format that each student keeps; its section, and a link to it.

Every rung is made and scored, side by side with the others; the choice is read off afterwards, so that it never waits for a score.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from conf.ladder import LadderConfig
from conf.schema import Recipe
from tasks.sections import Section

Ladder = dict[str, dict[str, Any]]


def climb(recipe: Recipe, rows_made: list[dict[str, Any]]) -> Ladder:
    """For each student its rungs in order, with what each lost and whether that is inside the bound, and the model kept (None: none)."""
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
    return {"model": row["model"], "bytes": row["bytes"], "lost": lost, "worst": worst, "inside": inside, "path": row["path"]}


def link(folder: Path, ladder: Ladder) -> None:
    """`kept-<student>` in the run's folder: the model that its student keeps."""
    for student, told in ladder.items():
        name = folder / f"kept-{student}"
        name.unlink(missing_ok=True)
        path = next((rung["path"] for rung in told["rungs"] if rung["model"] == told["kept"]), None)
        if path:
            name.symlink_to(os.path.relpath(path, folder))


def section(recipe: Recipe, ladder: Ladder) -> Section | None:
    """What each rung lost and which is kept; None where the recipe has no ladder."""
    config = recipe.ladder
    if config is None or not ladder:
        return None
    rows, sentences = [], []
    for student, told in ladder.items():
        bound = _told(config, config.bound)
        sentences.append(
            f"{student} keeps {told['kept']}, the smallest format that loses at most {bound}; the run's folder links it as kept-{student}."
            if told["kept"]
            else f"{student} keeps no format of the ladder: each may lose more than {bound}."
        )
        for rung in told["rungs"]:
            verdict = "kept" if rung["model"] == told["kept"] else "inside" if rung["inside"] else "outside"
            rows.append(
                (rung["model"], f"{rung['bytes'] / 1e6:,.2f} MB", _told(config, rung["lost"]), _told(config, rung["worst"]), verdict)
            )
    worst = "the worse end of its paired 95% interval" if config.confident and config.metric == "mmlu" else "the estimate"
    return Section(
        title="The ladder of formats",
        sentences=tuple(sentences),
        header=("model", "size", "lost", "at worst", "verdict"),
        rows=tuple(rows),
        notes=(f"Lost against the student before quantization; {worst} is held against the bound.",),
    )


def _told(config: LadderConfig, value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4f} nats" if config.metric == "val_loss" else f"{value * 100:.1f} points"
