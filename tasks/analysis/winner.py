"""The model of a run that is handed over: the best by the report's numbers, or the smallest that is shown to be nearly
as good."""

from __future__ import annotations

from typing import Any

from conf.claims import LOWER
from conf.recipe import Recipe
from conf.winner import WinnerConfig
from tasks.analysis.statistics import mean_interval, paired_difference
from tasks.analysis.verdicts import Scores

Row = dict[str, Any]
UNITS = {"val_loss": "test loss", "kl_teacher": "KL from the teacher", "mmlu": "score"}


def choose(recipe: Recipe, report: dict[str, Any], scores: dict[str, str]) -> dict[str, Any] | None:
    """The winner's name, the registry's name for it, and one sentence that says why; None where the recipe wants none
    or none may win.

    `scores`: the folder of each model's scores.
    """
    config = recipe.winner
    if config is None:
        return None
    registered = config.registered or report["name"]
    rows = contenders(recipe, report)
    if config.model:
        named = next((row for row in rows if row["model"] == config.model), None)
        told = f"The winner is {config.model}, as the recipe says." if named else None
        return {"model": config.model, "registered": registered, "sentence": told} if told else None
    rows = [row for row in rows if row[config.by] is not None and row["bytes"] <= (config.max_bytes or row["bytes"])]
    if not rows:
        return None
    sign = 1 if config.by in LOWER else -1
    rows.sort(key=lambda row: (sign * row[config.by], row["bytes"]))
    best = rows[0]
    lost = {row["model"]: _lost(config, row, best, scores) for row in rows[1:]}
    near = [best, *(row for row in rows[1:] if lost[row["model"]][2] <= config.margin)]
    smallest = min(near, key=lambda row: row["bytes"])
    return {"model": smallest["model"], "registered": registered, "sentence": _sentence(config, rows, smallest, lost)}


def contenders(recipe: Recipe, report: dict[str, Any]) -> list[Row]:
    """Rows that may win: a student's taught, tuned or quantized model, no baseline, every gate open, on the ladder only
    what is kept."""
    closed = {gate["model"] for gate in report["gates"] if gate["verdict"] != "passed"}
    dropped = {
        rung["model"]
        for told in report["ladder"].values()
        for rung in told["rungs"]
        if told["kept"] and rung["model"] != told["kept"]
    }
    found = []
    for row in report["rows"]:
        student = row["student"]
        if student not in recipe.students or row["baseline"] or row["model"] in closed | dropped:
            continue
        if row["stage"] != "prune" or recipe.stages_of(student) == ("prune",):
            found.append(row)
    return found


def _lost(config: WinnerConfig, row: Row, best: Row, scores: dict[str, str]) -> tuple[float, float, float]:
    """What a model loses against the best over the same items: the estimate and its 95% interval, the worse end
    last."""
    ours, theirs = (Scores.read(scores[each["model"]]) for each in (row, best))
    if config.by == "mmlu":
        common = sorted(ours.answers.keys() & theirs.answers.keys())
        difference, low, high = paired_difference(
            [ours.answers[item] for item in common], [theirs.answers[item] for item in common]
        )
        return -difference, -high, -low
    return mean_interval(
        [mine - its for mine, its in zip(ours.sequences[config.by], theirs.sequences[config.by], strict=True)]
    )


def _sentence(config: WinnerConfig, rows: list[Row], winner: Row, lost: dict[str, tuple[float, float, float]]) -> str:
    best, what = rows[0], UNITS[config.by]
    if winner is not best:
        value, low, high = lost[winner["model"]]
        return (
            f"The winner is {winner['model']}: the smallest model shown to lose at most"
            f" {_amount(config, config.margin)} of {what} against {best['model']}, the best; it loses"
            f" {_amount(config, value)} ({_interval(config, low, high)})."
        )
    told = f"The winner is {best['model']}: the best {what} of {len(rows)} models, {_amount(config, best[config.by])}"
    if len(rows) == 1:
        return f"The winner is {best['model']}: no other model may win."
    value, low, high = lost[rows[1]["model"]]
    shown = "is shown to be worse" if low > 0 else "is not shown to be worse"
    return f"{told}; {rows[1]['model']} {shown}: by {_amount(config, value)} ({_interval(config, low, high)})."


def _amount(config: WinnerConfig, value: float) -> str:
    return f"{value * 100:.1f} points" if config.by == "mmlu" else f"{value:.4f} nats"


def _interval(config: WinnerConfig, low: float, high: float) -> str:
    return f"95% {low * 100:.1f} to {high * 100:.1f}" if config.by == "mmlu" else f"95% {low:.4f} to {high:.4f}"
