"""The winner of a run: the best model by the report's numbers, or the smallest that is shown to be nearly as good."""

from __future__ import annotations

import math

from conf.claims import LOWER
from conf.recipe import Recipe
from conf.report.base import Estimate
from conf.report.report import Report
from conf.report.row import Row
from conf.report.winner import Winner
from conf.winner import WinnerConfig
from tasks.analysis.statistics import mean_interval, paired_difference
from tasks.analysis.verdicts import Scores

METRIC_NAMES = {"val_loss": "test loss", "kl_teacher": "KL from the teacher", "mmlu": "score"}


def choose(recipe: Recipe, report: Report, scores: dict[str, str]) -> Winner | None:
    """The winner of a report; None where the recipe wants none or no model is eligible. `scores`: the folder of each
    model's scores."""
    config = recipe.winner
    if config is None:
        return None
    registered = config.registered or report.name
    rows = eligible(recipe, report)
    if config.model:
        if config.model not in (row.model for row in rows):
            return None
        sentence = f"The winner is {config.model}, set by winner.model in the recipe."
        return Winner(model=config.model, registered=registered, sentence=sentence)
    ranked = _ranked(config, rows)
    if not ranked:
        return None
    best = ranked[0]
    lost = {row.model: _lost(config, row, best, scores) for row in ranked[1:]}
    near = [best, *(row for row in ranked[1:] if lost[row.model][2] <= config.margin)]
    smallest = min(near, key=lambda row: row.bytes)
    return Winner(model=smallest.model, registered=registered, sentence=_sentence(config, ranked, smallest, lost))


def eligible(recipe: Recipe, report: Report) -> list[Row]:
    """Rows that may win: a student's distilled, fine-tuned or quantized model that is not a baseline, passed every
    gate, and is the one that the ladder keeps if there is one."""
    closed = {gate.model for gate in report.gates if gate.verdict != "passed"}
    dropped = {
        rung.model
        for choice in report.ladder.values()
        for rung in choice.rungs
        if choice.kept and rung.model != choice.kept
    }
    rows = []
    for row in report.rows:
        if row.student is None or row.student not in recipe.students or row.baseline or row.model in closed | dropped:
            continue
        if row.stage != "prune" or recipe.stages_of(row.student) == ("prune",):
            rows.append(row)
    return rows


def _ranked(config: WinnerConfig, rows: list[Row]) -> list[Row]:
    """The measured rows within max_bytes, the best first; of equal ones the smaller, then the earlier."""
    sign = 1 if config.by in LOWER else -1
    ranked = sorted(
        (sign * value, row.bytes, place)
        for place, row in enumerate(rows)
        if (value := row.value(config.by)) is not None and (config.max_bytes is None or row.bytes <= config.max_bytes)
    )
    return [rows[place] for _, _, place in ranked]


def _lost(config: WinnerConfig, row: Row, best: Row, scores: dict[str, str]) -> Estimate:
    """What a model loses against the best over the same items: the estimate and its 95% interval, the worse end
    last."""
    ours, theirs = (Scores.read(scores[each.model]) for each in (row, best))
    if config.by == "mmlu":
        common = sorted(ours.answers.keys() & theirs.answers.keys())
        difference, low, high = paired_difference(
            [ours.answers[item] for item in common], [theirs.answers[item] for item in common]
        )
        return -difference, -high, -low
    values = zip(ours.sequences[config.by], theirs.sequences[config.by], strict=True)
    return mean_interval([value - best_value for value, best_value in values])


def _sentence(config: WinnerConfig, ranked: list[Row], winner: Row, lost: dict[str, Estimate]) -> str:
    best, metric = ranked[0], METRIC_NAMES[config.by]
    if winner is not best:
        value, low, high = lost[winner.model]
        return (
            f"The winner is {winner.model}: the smallest model shown to lose at most {_amount(config, config.margin)}"
            f" of {metric} against {best.model}, the best; it loses {_amount(config, value)}"
            f" ({_interval(config, low, high)})."
        )
    if len(ranked) == 1:
        return f"The winner is {best.model}: no other model is eligible."
    measured = best.value(config.by)
    assert measured is not None, "choose() drops models without the metric"
    value, low, high = lost[ranked[1].model]
    verdict = "is shown to be worse" if low > 0 else "is not shown to be worse"
    return (
        f"The winner is {best.model}: the best {metric} of {len(ranked)} models, {_amount(config, measured)};"
        f" {ranked[1].model} {verdict}: by {_amount(config, value)} ({_interval(config, low, high)})."
    )


def _amount(config: WinnerConfig, value: float) -> str:
    return f"{value * 100:.1f} points" if config.by == "mmlu" else f"{value:.4f} nats"


def _interval(config: WinnerConfig, low: float, high: float) -> str:
    if not math.isfinite(high - low):
        return "no interval from one test sequence"
    return f"95% {low * 100:.1f} to {high * 100:.1f}" if config.by == "mmlu" else f"95% {low:.4f} to {high:.4f}"
