"""The verdict, which stands first in the report: which model to take and why, in three lines."""

from __future__ import annotations

from conf.gates import SCORES
from conf.recipe import Recipe
from conf.report.report import Report
from conf.report.row import Row
from tasks.analysis.winner import METRIC_NAMES, allowed, value_of
from tasks.report import words


def verdict(recipe: Recipe, report: Report) -> tuple[str, ...]:
    """What to take, what it costs against the teacher, and the best in quality; why there is nothing to take; empty
    where the recipe wants no winner."""
    if recipe.winner is None:
        return ()
    winner = next((row for row in report.rows if report.winner and row.model == report.winner.model), None)
    if winner is None:
        return (_nothing(recipe, report),)
    teacher = report.rows[0]
    return (_take(winner, teacher), _costs(winner, report), _beside(winner, report))


def _take(row: Row, teacher: Row) -> str:
    relative = words.size(row.bytes / teacher.bytes)
    than = "as its teacher" if relative == "as large" else "than its teacher"
    sizes = f"{words.megabytes(row.bytes)} instead of {words.megabytes(teacher.bytes)}"
    return f"Take {row.model}: {relative} {than} ({sizes})."


def _costs(row: Row, report: Report) -> str:
    """Loss, KL and score against the teacher."""
    against = row.against_teacher
    parts = [f"{words.nats(against.val_loss)} against it (test loss {row.val_loss:.3f})"]
    if row.kl_teacher is not None:
        parts.append(f"is {row.kl_teacher:.3f} nats of KL from it")
    text = f"It {' and '.join(parts)}"
    if row.mmlu is None:
        return f"{text}; no questions were asked."
    if at_chance(report.rows[0], report.chance):
        return f"{text}; its score says nothing, as the teacher's is at chance."
    compared = words.score(against)
    return f"{text}; it answers {row.mmlu:.1%}{f', {compared}' if compared else ''}."


def _beside(winner: Row, report: Report) -> str:
    """Why it won, with the best model beside it; ties are called that."""
    chosen = report.winner
    assert chosen is not None, "there is a winner"
    if chosen.by is None or chosen.margin is None:
        return f"The recipe names it{'; nobody taught it' if winner.taught is False else ''}."
    metric, tied = METRIC_NAMES[chosen.by], [name for name in chosen.tied if name != winner.model]
    if chosen.best == winner.model:
        others = f"; a tie with {', '.join(tied)}: no difference is shown" if tied else ""
        return f"It is the best by {metric}{others}."
    best = next(row for row in report.rows if row.model == chosen.best)
    value, share = value_of(best, chosen.by, report) or 0.0, chosen.by in SCORES
    number = f"{value:.1%}" if share else f"{value:.4f} nats"
    margin = f"{chosen.margin * 100:g} points" if share else f"{chosen.margin:g} nats"
    relation = "a tie with it: no difference is shown" if winner.model in chosen.tied else "shown to be better"
    return (
        f"It is the smallest within {margin} of {metric} of the best quality: {best.model},"
        f" {words.megabytes(best.bytes)}, {number}, {relation}."
    )


def _nothing(recipe: Recipe, report: Report) -> str:
    """Why no model wins."""
    untaught = [row.model for row in allowed(recipe, report) if row.taught is False]
    if untaught:
        names = f"{', '.join(untaught)} was" if len(untaught) == 1 else f"{', '.join(untaught)} were"
        return f"Take none of them yet: {names} pruned and never taught; add distill or sft to the recipe."
    return "Take none of them: no model is taught, passes its gates and has the size and metric that winner asks for."


def at_chance(teacher: Row, chance: float | None) -> bool:
    """Whether the teacher's score is not shown to be above chance."""
    return chance is not None and teacher.mmlu_ci95 is not None and teacher.mmlu_ci95[0] <= chance
