"""The report's section on the recipe's claims: the difference of two models, its paired interval, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from conf.benchmarks import BENCHMARKS
from conf.claims import LOWER, Claim
from conf.recipe import Recipe
from conf.report.claims import ClaimVerdict
from conf.report.row import Row
from conf.report.section import Section
from tasks.analysis.crossed import crossed_interval
from tasks.analysis.statistics import finite, mean_interval, paired_difference
from tasks.analysis.verdicts import Scores
from tasks.report.sections.benchmarks import Right, read_right

HEADER = ("claim", "by", "model", "than", "difference", "95% interval", "n", "verdict")
UNITS = {
    **dict.fromkeys(("mmlu", *BENCHMARKS), (100.0, " points")),
    "bytes": (1e-6, " MB"),
    "tokens_per_second": (1.0, " tokens/s"),
}
"""Factor and unit in which a metric is printed; other metrics are in nats."""


def decide(
    recipe: Recipe, rows: tuple[Row, ...], folders: dict[str, str], judged: Mapping[str, dict[str, str]] = {}
) -> tuple[ClaimVerdict, ...]:
    """A verdict on every claim whose two models were built; `folders` are the scores by model, `judged` the judged
    answers by model and benchmark."""
    by_name = {row.model: row for row in rows}
    claims = [claim for claim in recipe.claims.values() if claim and {claim.model, claim.than} <= by_name.keys()]
    verdicts = []
    for claim in claims:
        verdict = _over_seeds(recipe, claim, by_name, folders, judged)
        if verdict is None and claim.by in BENCHMARKS:
            verdict = _on_benchmark(claim, *(read_right(judged[name][claim.by]) for name in (claim.model, claim.than)))
        verdicts.append(verdict or _decide(claim, by_name, folders))
    return tuple(verdicts)


def _over_seeds(
    recipe: Recipe, claim: Claim, rows: dict[str, Row], folders: dict[str, str], judged: Mapping[str, dict[str, str]]
) -> ClaimVerdict | None:
    """The verdict over the seeds of both models; None where there is one seed, or what is claimed has no items."""
    names = [_by_seed(recipe, rows, model) for model in (claim.model, claim.than)]
    seeds = max(map(len, names))
    if seeds == 1 or claim.by in ("tokens_per_second", "bytes"):
        return None
    count = min(len(each) for each in names if len(each) > 1)  # a gate may have stopped a copy
    items = [
        [_items(claim, name, folders, judged) for name in (each if len(each) > 1 else each * count)[:count]]
        for each in names
    ]
    common = sorted(set.intersection(*(set(one) for each in items for one in each)))
    values = [np.array([[one[item] for item in common] for one in each]) for each in items]
    difference, low, high = crossed_interval(values[0] - values[1])
    sign, ends = -1 if claim.by in LOWER else 1, finite(low, high) or (None, None)
    update = {"difference": difference, "low": ends[0], "high": ends[1], "n": len(common), "seeds": count}
    verdict = _verdict(claim, float(values[0].mean()), float(values[1].mean()))
    return verdict.model_copy(update=update | {"verdict": interval_verdict(sign * low, sign * high)})


def _by_seed(recipe: Recipe, rows: dict[str, Row], model: str) -> list[str]:
    """The model, and the same model of its student's copies with further seeds, as far as they were built."""
    student = rows[model].student
    copies = recipe.copies(student) if student else ()
    names = [model, *(f"{copy}{model.removeprefix(student or '')}" for copy in copies)]
    return [name for name in names if name in rows]


def _items(claim: Claim, model: str, folders: dict[str, str], judged: Mapping[str, dict[str, str]]) -> dict[Any, float]:
    """A model's loss on each test sequence, or whether it answered each question."""
    if claim.by in BENCHMARKS:
        return {name: float(right) for name, right in read_right(judged[model][claim.by]).items()}
    scores = Scores.read(folders[model])
    if claim.by == "mmlu":
        return {item: float(right) for item, right in scores.answers.items()}
    return dict(enumerate(scores.sequences[claim.by]))


def _on_benchmark(claim: Claim, ours: Right, theirs: Right) -> ClaimVerdict:
    value, than_value = (sum(right.values()) / len(right) for right in (ours, theirs))
    common = sorted(ours.keys() & theirs.keys())
    difference, low, high = paired_difference([ours[item] for item in common], [theirs[item] for item in common])
    return _verdict(claim, value, than_value).model_copy(
        update={
            "difference": difference,
            "low": low,
            "high": high,
            "n": len(common),
            "verdict": interval_verdict(low, high),
        }
    )


def _decide(claim: Claim, rows: dict[str, Row], folders: dict[str, str]) -> ClaimVerdict:
    value, than_value = rows[claim.model].value(claim.by), rows[claim.than].value(claim.by)
    verdict = _verdict(claim, value, than_value)
    if value is None or than_value is None:
        return verdict
    sign = -1 if claim.by in LOWER else 1
    if claim.by in ("tokens_per_second", "bytes"):
        holds = sign * (value - than_value) > 0
        suffix = ", timed once" if claim.by == "tokens_per_second" else ""
        decided = ("holds" if holds else "refuted") + suffix
        return verdict.model_copy(update={"difference": value - than_value, "verdict": decided})
    difference, low, high, n = _paired(claim, *(Scores.read(folders[name]) for name in (claim.model, claim.than)))
    ends = finite(low, high) or (None, None)
    update = {"difference": difference, "low": ends[0], "high": ends[1], "n": n}
    return verdict.model_copy(update=update | {"verdict": interval_verdict(sign * low, sign * high)})


def _verdict(claim: Claim, value: float | None, than_value: float | None) -> ClaimVerdict:
    """The verdict on what has no interval yet."""
    return ClaimVerdict(
        claim=claim.says or f"{claim.model} is better than {claim.than}",
        by=claim.by,
        model=claim.model,
        than=claim.than,
        model_value=value,
        than_value=than_value,
        verdict="not shown",
    )


def interval_verdict(one: float, other: float) -> Literal["holds", "refuted", "not shown"]:
    """The verdict from the ends of an interval, in either order, where a positive difference is an improvement."""
    worst, best = sorted((one, other))
    return "holds" if worst > 0 else "refuted" if best < 0 else "not shown"


def _paired(claim: Claim, ours: Scores, theirs: Scores) -> tuple[float, float, float, int]:
    """The difference over the same items, its 95% interval, and the number of items."""
    if claim.by == "mmlu":
        common = sorted(ours.answers.keys() & theirs.answers.keys())
        pair = [ours.answers[item] for item in common], [theirs.answers[item] for item in common]
        return *paired_difference(*pair), len(common)
    losses = zip(ours.sequences[claim.by], theirs.sequences[claim.by], strict=True)
    differences = [one - other for one, other in losses]
    return *mean_interval(differences), len(differences)


def section(claims: tuple[ClaimVerdict, ...]) -> Section | None:
    """The section, None where the recipe claims nothing."""
    if not claims:
        return None
    verdicts = [claim.verdict for claim in claims]
    return Section(
        title="Claims",
        sentences=(
            (
                f"{len(claims)} claims: {sum(verdict.startswith('holds') for verdict in verdicts)} hold,"
                f" {sum(verdict.startswith('refuted') for verdict in verdicts)} refuted,"
                f" {verdicts.count('not shown')} not shown either way."
            ),
        ),
        header=HEADER,
        rows=tuple(_row(claim) for claim in claims),
        notes=(
            (
                "Differences are the model minus the other, over the same test sequences (nats, Student's t) or"
                " questions (points, Newcombe). A claim holds if the whole 95% interval is on its side. Speeds are"
                " timed once, while other stages of the run may share the machine. With several seeds, the interval is"
                " over seeds and items together (Satterthwaite)."
            ),
        ),
    )


def _row(claim: ClaimVerdict) -> tuple[str, ...]:
    scale, unit = UNITS.get(claim.by, (1.0, " nats"))
    difference = "-" if claim.difference is None else f"{claim.difference * scale:+.3g}{unit}"
    interval = "-"
    if claim.low is not None and claim.high is not None:
        interval = f"{claim.low * scale:+.3g} to {claim.high * scale:+.3g}"
    return (
        claim.claim,
        claim.by,
        claim.model,
        claim.than,
        difference,
        interval,
        "-" if claim.n is None else str(claim.n) if claim.seeds == 1 else f"{claim.n} x {claim.seeds} seeds",
        claim.verdict,
    )
