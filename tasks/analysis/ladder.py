"""The ladder of formats: chooses the format that each student keeps from the report's paired differences, and links it.

All formats are built and scored side by side; the choice is made afterwards, so that no stage waits for a score."""

from __future__ import annotations

import os
from pathlib import Path

from conf.ladder import LadderConfig
from conf.recipe import Recipe
from conf.report.benchmarks import BenchmarkRow
from conf.report.ladder import LadderChoice, Rung
from conf.report.row import Row


def choose_format(
    recipe: Recipe, rows: tuple[Row, ...], benchmarks: tuple[BenchmarkRow, ...] = ()
) -> dict[str, LadderChoice]:
    """The formats of each student in the ladder's order, and the model it keeps: the last one within the bound. Empty
    where the recipe has no ladder."""
    config = recipe.ladder
    if config is None:
        return {}
    quantized = {(row.student, row.format): row for row in rows if row.stage == "quantize"}
    choices = {}
    for student in dict.fromkeys(student for student, _ in quantized if student):
        formats = [form for form in config.formats if (student, form) in quantized]
        rungs = tuple(_rung(config, quantized[student, form], benchmarks) for form in formats)
        within = [rung.model for rung in rungs if rung.inside]
        if rungs:
            choices[student] = LadderChoice(rungs=rungs, kept=within[-1] if within else None)
    return choices


def _rung(config: LadderConfig, row: Row, benchmarks: tuple[BenchmarkRow, ...]) -> Rung:
    """What one format lost: the estimate, and for the score the worse end of its paired interval."""
    against = row.against_student or row.against_teacher
    if config.metric == "val_loss":
        lost: float | None = against.val_loss
        worst = lost
    elif config.metric != "mmlu":
        score = next((one for one in benchmarks if (one.model, one.benchmark) == (row.model, config.metric)), None)
        change = score and ((row.against_student and score.against_before) or score.against_teacher)
        lost, worst = (-change.difference, -change.ci95[0]) if change else (None, None)
    else:
        lost = None if against.mmlu is None else -against.mmlu
        worst = None if against.mmlu_ci95 is None else -against.mmlu_ci95[0]
    compared = worst if config.confident else lost
    inside = compared is not None and compared <= config.bound
    return Rung(model=row.model, bytes=row.bytes, lost=lost, worst=worst, inside=inside, path=row.path)


def link(folder: Path, ladder: dict[str, LadderChoice]) -> None:
    """Link the model that each student keeps as `kept-<student>` in the run's folder; an outdated link is removed."""
    for student, choice in ladder.items():
        name = folder / f"kept-{student}"
        name.unlink(missing_ok=True)
        path = next((rung.path for rung in choice.rungs if rung.model == choice.kept), None)
        if path:
            name.symlink_to(os.path.relpath(path, folder))
