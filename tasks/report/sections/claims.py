"""The report's section on the recipe's claims: the difference of two models, its paired interval, and whether the claim
holds."""

from __future__ import annotations

from typing import Any, Literal

from conf.base import Config
from conf.claims import LOWER, Claim
from conf.recipe import Recipe
from tasks.analysis.statistics import mean_interval, paired_difference
from tasks.analysis.verdicts import Scores
from tasks.report.section import Section

HEADER = ("claim", "by", "model", "than", "difference", "95% interval", "n", "verdict")


class Decided(Config):
    """What came of a claim. Numbers are in nats, shares of the questions, bytes or tokens per second; `difference` is
    model less the other, None where one of them was not measured."""

    says: str
    by: str
    model: str
    than: str
    ours: float | None
    theirs: float | None
    difference: float | None
    low: float | None
    high: float | None
    n: int | None
    verdict: Literal["holds", "refuted", "not shown", "holds, once timed", "refuted, once timed"]


def decide(recipe: Recipe, rows: list[dict[str, Any]], folders: dict[str, str]) -> list[dict[str, Any]]:
    """Every claim whose two models were made; `folders`: a model's scores by its name."""
    by_name = {row["model"]: row for row in rows}
    claims = [claim for claim in recipe.claims.values() if claim and {claim.model, claim.than} <= by_name.keys()]
    return [_decide(claim, by_name, folders).model_dump(mode="json") for claim in claims]


def _decide(claim: Claim, rows: dict[str, dict[str, Any]], folders: dict[str, str]) -> Decided:
    ours, theirs = rows[claim.model][claim.by], rows[claim.than][claim.by]
    says = claim.says or f"{claim.model} is better than {claim.than}"
    told: dict[str, Any] = {
        "says": says,
        "by": claim.by,
        "model": claim.model,
        "than": claim.than,
        "ours": ours,
        "theirs": theirs,
    }
    if ours is None or theirs is None:
        return Decided(**told, difference=None, low=None, high=None, n=None, verdict="not shown")
    sign = -1 if claim.by in LOWER else 1
    if claim.by in ("tokens_per_second", "bytes"):
        better = sign * (ours - theirs) > 0
        timed = ", once timed" if claim.by == "tokens_per_second" else ""
        verdict: Any = ("holds" if better else "refuted") + timed
        return Decided(**told, difference=ours - theirs, low=None, high=None, n=None, verdict=verdict)
    difference, low, high, n = _paired(claim, *(Scores.read(folders[name]) for name in (claim.model, claim.than)))
    worst, best = sorted((sign * low, sign * high))
    verdict = "holds" if worst > 0 else "refuted" if best < 0 else "not shown"
    return Decided(**told, difference=difference, low=low, high=high, n=n, verdict=verdict)


def _paired(claim: Claim, mine: Scores, other: Scores) -> tuple[float, float, float, int]:
    """The difference over the same items, its 95% interval, and how many items."""
    if claim.by == "mmlu":
        common = sorted(mine.answers.keys() & other.answers.keys())
        pair = [mine.answers[item] for item in common], [other.answers[item] for item in common]
        return *paired_difference(*pair), len(common)
    parts = [ours - theirs for ours, theirs in zip(mine.sequences[claim.by], other.sequences[claim.by], strict=True)]
    return *mean_interval(parts), len(parts)


def section(report: dict[str, Any]) -> Section | None:
    """The section, None where the recipe claims nothing."""
    decided = [Decided.model_validate(entry) for entry in report["claims"]]
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


def _row(claim: Decided) -> tuple[str, ...]:
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
