"""The report's section on the recipe's claims: the difference of two models, its paired interval, and whether the claim
holds."""

from __future__ import annotations

from typing import Any

from conf.claims import LOWER, Claim
from conf.recipe import Recipe
from conf.report.claims import ClaimVerdict
from conf.report.report import Report
from conf.report.row import Row
from conf.report.section import Section
from tasks.analysis.statistics import finite, mean_interval, paired_difference
from tasks.analysis.verdicts import Scores

HEADER = ("claim", "by", "model", "than", "difference", "95% interval", "n", "verdict")


def decide(recipe: Recipe, rows: tuple[Row, ...], folders: dict[str, str]) -> tuple[ClaimVerdict, ...]:
    """Every claim whose two models were made; `folders`: a model's scores by its name."""
    by_name = {row.model: row for row in rows}
    claims = [claim for claim in recipe.claims.values() if claim and {claim.model, claim.than} <= by_name.keys()]
    return tuple(_decide(claim, by_name, folders) for claim in claims)


def _decide(claim: Claim, rows: dict[str, Row], folders: dict[str, str]) -> ClaimVerdict:
    ours, theirs = rows[claim.model].value(claim.by), rows[claim.than].value(claim.by)
    says = claim.says or f"{claim.model} is better than {claim.than}"
    stated: dict[str, Any] = {"says": says, "by": claim.by, "model": claim.model, "than": claim.than}
    stated |= {"ours": ours, "theirs": theirs}
    if ours is None or theirs is None:
        return ClaimVerdict(**stated, verdict="not shown")
    sign = -1 if claim.by in LOWER else 1
    if claim.by in ("tokens_per_second", "bytes"):
        better = sign * (ours - theirs) > 0
        timed = ", once timed" if claim.by == "tokens_per_second" else ""
        verdict: Any = ("holds" if better else "refuted") + timed
        return ClaimVerdict(**stated, difference=ours - theirs, verdict=verdict)
    difference, low, high, n = _paired(claim, *(Scores.read(folders[name]) for name in (claim.model, claim.than)))
    worst, best = sorted((sign * low, sign * high))
    verdict = "holds" if worst > 0 else "refuted" if best < 0 else "not shown"
    ends = dict(zip(("low", "high"), finite(low, high) or (None, None), strict=True))
    return ClaimVerdict(**stated, difference=difference, **ends, n=n, verdict=verdict)


def _paired(claim: Claim, mine: Scores, other: Scores) -> tuple[float, float, float, int]:
    """The difference over the same items, its 95% interval, and how many items."""
    if claim.by == "mmlu":
        common = sorted(mine.answers.keys() & other.answers.keys())
        pair = [mine.answers[item] for item in common], [other.answers[item] for item in common]
        return *paired_difference(*pair), len(common)
    parts = [ours - theirs for ours, theirs in zip(mine.sequences[claim.by], other.sequences[claim.by], strict=True)]
    return *mean_interval(parts), len(parts)


def section(report: Report) -> Section | None:
    """The section, None where the recipe claims nothing."""
    decided = report.claims
    if not decided:
        return None
    verdicts = [claim.verdict for claim in decided]
    return Section(
        title="Claims",
        sentences=(
            (
                f"Of {len(decided)} claims {sum(verdict.startswith('holds') for verdict in verdicts)} hold here,"
                f" {sum(verdict.startswith('refuted') for verdict in verdicts)} are refuted,"
                f" {verdicts.count('not shown')} are not shown either way."
            ),
        ),
        header=HEADER,
        rows=tuple(_row(claim) for claim in decided),
        notes=(
            (
                "Differences are model less the other, over the same test sequences (nats, Student's t) or questions"
                " (points, Newcombe). A claim holds where the whole 95% interval is on its side. Speeds are timed once"
                " each, beside whatever else the machine did."
            ),
        ),
    )


def _row(claim: ClaimVerdict) -> tuple[str, ...]:
    scale, unit = {"mmlu": (100, " points"), "bytes": (1e-6, " MB"), "tokens_per_second": (1, " tokens/s")}.get(
        claim.by, (1, " nats")
    )
    difference = "-" if claim.difference is None else f"{claim.difference * scale:+.3g}{unit}"
    interval = (
        "-" if claim.low is None or claim.high is None else f"{claim.low * scale:+.3g} to {claim.high * scale:+.3g}"
    )
    return (
        claim.says,
        claim.by,
        claim.model,
        claim.than,
        difference,
        interval,
        "-" if claim.n is None else str(claim.n),
        claim.verdict,
    )
