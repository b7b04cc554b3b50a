"""The winner of a run: the smallest taught model that is shown to be nearly as good as the best, else the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from conf.benchmarks import BENCHMARKS
from conf.claims import LOWER
from conf.gates import SCORES
from conf.recipe import Recipe
from conf.report.base import Estimate
from conf.report.report import Report
from conf.report.row import Row
from conf.report.winner import Winner
from conf.winner import MARGINS, Metric, WinnerConfig
from tasks.analysis import domain
from tasks.analysis.statistics import mean_interval, paired_difference
from tasks.analysis.verdicts import Scores

METRIC_NAMES: dict[str, str] = {"val_loss": "test loss", "kl_teacher": "KL from the teacher", "mmlu": "score"}
METRIC_NAMES |= {name: f"score on {name}" for name in BENCHMARKS}
Judged = Mapping[str, Mapping[str, str]]
"""The folder of each model's judgement on each benchmark."""


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """How the winner is chosen: the metric, what a smaller model may lose, the size allowed, and why KL decides, if it
    does where nobody asked for it."""

    by: Metric
    margin: float
    max_bytes: int | None
    why: str | None

    @classmethod
    def of(cls, config: WinnerConfig, report: Report) -> _Rule:
        why = domain.outside(report.rows) if config.by is None else None
        by: Metric = config.by or ("kl_teacher" if why else "val_loss")
        margin = MARGINS[by] if config.margin is None else config.margin
        return cls(by=by, margin=margin, max_bytes=config.max_bytes, why=why)


def choose(
    recipe: Recipe, report: Report, scores: dict[str, str], judged: Judged = MappingProxyType({})
) -> Winner | None:
    """The winner of a report; None where the recipe wants none or no model is eligible. `scores`: the folder of each
    model's scores; `judged`: those of its benchmarks."""
    config = recipe.winner
    if config is None:
        return None
    registered = config.registered or report.name
    if config.model:
        named = next((row for row in allowed(recipe, report) if row.model == config.model), None)
        if named is None:
            return None
        untaught = "; nobody taught it: it was pruned and no more" if named.taught is False else ""
        sentence = f"The winner is {config.model}, set by winner.model in the recipe{untaught}."
        return Winner(model=config.model, registered=registered, sentence=sentence)
    rule = _Rule.of(config, report)
    ranked = _ranked(rule, eligible(recipe, report), report)
    if rule.by in BENCHMARKS:
        scores = {row.model: judged[row.model][rule.by] for row in ranked}
    if not ranked:
        return None
    best = ranked[0]
    lost = {row.model: _lost(rule, row, best, scores) for row in ranked[1:]}
    near = [best, *(row for row in ranked[1:] if lost[row.model][2] <= rule.margin)]
    smallest = min(near, key=lambda row: row.bytes)
    return Winner(
        model=smallest.model,
        registered=registered,
        sentence=_sentence(rule, ranked, smallest, lost, report) + _seeds_told(recipe, ranked),
        by=rule.by,
        best=best.model,
        margin=rule.margin,
        tied=tuple(name for name, (_, low, _) in lost.items() if low <= 0),
    )


def eligible(recipe: Recipe, report: Report) -> list[Row]:
    """Rows that may win: those that are allowed and were taught."""
    return [row for row in allowed(recipe, report) if row.taught is not False]


def allowed(recipe: Recipe, report: Report) -> list[Row]:
    """Rows that the recipe may name the winner: a student's last model or one of its formats that is not a baseline,
    passed every gate, and is the one that the ladder keeps if there is one."""
    closed = {gate.model for gate in report.gates if gate.verdict != "passed"}
    dropped = {
        rung.model
        for choice in report.ladder.values()
        for rung in choice.rungs
        if choice.kept and rung.model != choice.kept
    }
    copies = {copy for name in recipe.students for copy in recipe.copies(name)}  # the best seed is the luckiest
    rows = []
    for row in report.rows:
        if row.student in copies:
            continue
        if row.student is None or row.student not in recipe.students or row.baseline or row.model in closed | dropped:
            continue
        if row.stage != "prune" or recipe.stages_of(row.student) == ("prune",):
            rows.append(row)
    return rows


def value_of(row: Row, metric: Metric, report: Report) -> float | None:
    """A row's measurement by a metric, or its score on a benchmark; None: not measured."""
    if metric not in BENCHMARKS:
        return row.value(metric)
    found = (one for one in report.benchmarks if (one.model, one.benchmark) == (row.model, metric))
    return next((one.scores.score for one in found), None)


def _ranked(rule: _Rule, rows: list[Row], report: Report) -> list[Row]:
    """The measured rows within max_bytes, the best first; of equal ones the smaller, then the earlier."""
    sign = 1 if rule.by in LOWER else -1
    ranked = sorted(
        (sign * value, row.bytes, place)
        for place, row in enumerate(rows)
        if (value := value_of(row, rule.by, report)) is not None
        and (rule.max_bytes is None or row.bytes <= rule.max_bytes)
    )
    return [rows[place] for _, _, place in ranked]


def _lost(rule: _Rule, row: Row, best: Row, scores: dict[str, str]) -> Estimate:
    """What a model loses against the best over the same items: the estimate and its 95% interval, the worse end
    last."""
    ours, theirs = (Scores.read(scores[each.model]) for each in (row, best))
    if rule.by in SCORES:
        common = sorted(ours.answers.keys() & theirs.answers.keys())
        difference, low, high = paired_difference(
            [ours.answers[item] for item in common], [theirs.answers[item] for item in common]
        )
        return -difference, -high, -low
    values = zip(ours.sequences[rule.by], theirs.sequences[rule.by], strict=True)
    return mean_interval([value - best_value for value, best_value in values])


def _sentence(rule: _Rule, ranked: list[Row], winner: Row, lost: dict[str, Estimate], report: Report) -> str:
    """Why it won: as the best, or as the smallest that is nearly as good."""
    best, metric = ranked[0], METRIC_NAMES[rule.by]
    judge = f" KL from the teacher decides, because {rule.why}." if rule.why else ""
    if winner is not best:
        return (
            f"The winner is {winner.model}: the smallest model shown to lose at most {_amount(rule, rule.margin)} of"
            f" {metric} against {best.model}, the best; {_lost_to_best(rule, lost[winner.model])}.{judge}"
        )
    if len(ranked) == 1:
        return f"The winner is {best.model}: no other model is eligible.{judge}"
    measured = value_of(best, rule.by, report)
    assert measured is not None, "choose() drops models without the metric"
    following = ranked[1]
    value, low, high = lost[following.model]
    verdict = (
        f"{following.model} is shown to be worse: by {_amount(rule, value)} ({_interval(rule, low, high)})"
        if low > 0
        else f"it is a tie with {following.model}, which is not shown to be worse: by {_amount(rule, value)}"
        f" ({_interval(rule, low, high)})"
    )
    return (
        f"The winner is {best.model}: the best {metric} of {len(ranked)} models, {_amount(rule, measured)};"
        f" {verdict}.{judge}"
    )


def _seeds_told(recipe: Recipe, ranked: list[Row]) -> str:
    """That models were compared and not ways to make them, where students have more seeds than one."""
    seeded = {row.student for row in ranked if row.student and recipe.copies(row.student)}
    if len(ranked) < 2 or not seeded:
        return ""
    return " Only first seeds are compared here; claims compare students over all of theirs."


def _lost_to_best(rule: _Rule, lost: Estimate) -> str:
    value, low, high = lost
    text = f"it loses {_amount(rule, value)} ({_interval(rule, low, high)})"
    return f"{text}, which is a tie" if low <= 0 else text


def _amount(rule: _Rule, value: float) -> str:
    return f"{value * 100:.1f} points" if rule.by in SCORES else f"{value:.4f} nats"


def _interval(rule: _Rule, low: float, high: float) -> str:
    if not math.isfinite(high - low):
        return "no interval from one test sequence"
    return f"95% {low * 100:.1f} to {high * 100:.1f}" if rule.by in SCORES else f"95% {low:.4f} to {high:.4f}"
