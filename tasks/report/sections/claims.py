"""The report's section on the recipe's claims: the difference of two models, its paired interval, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from conf.claims import BENCHMARKS, LOWER, Claim
from conf.recipe import Recipe
from conf.report.claims import ClaimVerdict
from conf.report.row import Row
from conf.report.section import Section
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
    return tuple(
        _on_benchmark(claim, *(read_right(judged[name][claim.by]) for name in (claim.model, claim.than)))
        if claim.by in BENCHMARKS
        else _decide(claim, by_name, folders)
        for claim in claims
    )


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
                " timed once, while other stages of the run may share the machine."
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
        "-" if claim.n is None else str(claim.n),
        claim.verdict,
    )
