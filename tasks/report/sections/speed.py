"""The report's section on score against throughput: what `imbik bench` measured of the run's models."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from conf.report.report import Report
from conf.report.row import Row
from conf.report.section import Section
from conf.report.speed import Speed

FOLDER = "latency"
"""In a run's folder: a file for each measurement of its models."""
TITLE = "Score against throughput"
FIGURES = {
    "throughput": "Score against output tokens per second, with 95% intervals of the score.",
    "score-size": "Score of the same models against the size of their weights.",
}
HEADER = ("model", "engine", "tokens of prompt/answer", "at once", "tokens/s (low to high)")


def read_speeds(folder: Path, rows: tuple[Row, ...]) -> tuple[Speed, ...]:
    """The newest figures of each model, length and concurrency in a run's folder, of models that are still those of
    the report."""
    places = {row.model: row.path for row in rows}
    newest: dict[tuple[str, int, int, int], Speed] = {}
    for file in sorted((folder / FOLDER).glob("*.json")):
        for one in map(Speed.model_validate, json.loads(file.read_text(encoding="utf-8"))):
            key = (one.model, one.isl, one.osl, one.concurrency)
            same = Path(places.get(one.model, "")).parts[-2:] == Path(one.path).parts[-2:]  # the store may have moved
            if same and (key not in newest or newest[key].measured <= one.measured):
                newest[key] = one
    order = {row.model: place for place, row in enumerate(rows)}
    return tuple(sorted(newest.values(), key=lambda one: (one.isl, one.osl, one.concurrency, order[one.model])))


def scores_of(report: Report) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Score and its 95% interval, as shares, by benchmark and model."""
    found = {
        "MMLU": {
            row.model: (row.mmlu, *row.mmlu_ci95)
            for row in report.rows
            if row.mmlu is not None and row.mmlu_ci95 is not None
        }
    }
    for one in report.benchmarks:
        found.setdefault(one.benchmark, {})[one.model] = (one.scores.score, *one.scores.ci95)
    return found


def drawn(report: Report) -> dict[str, Speed]:
    """The speeds of the figure by model: at the length and concurrency of the most models that have a score, of equal
    ones the most requests at once; measured on one machine. Empty where no model has both."""
    scored = {model for scores in scores_of(report).values() for model in scores}
    kinds = [(one, (one.isl, one.osl, one.concurrency, one.machine)) for one in report.speeds if one.model in scored]
    if not kinds:
        return {}
    counts = Counter(kind for _, kind in kinds)
    best = max(counts, key=lambda kind: (counts[kind], kind[2], kind[0], kind[1]))
    return {one.model: one for one, kind in kinds if kind == best}


def section(report: Report) -> Section | None:
    """The section; None where no model has both a score and a measured speed."""
    shown = drawn(report)
    if not shown:
        return None
    one = next(iter(shown.values()))
    return Section(
        title=TITLE,
        header=HEADER,
        rows=tuple(
            (
                speed.model,
                speed.engine,
                f"{speed.isl}/{speed.osl}",
                str(speed.concurrency),
                f"{speed.tokens_per_second:,.1f} ({speed.low:,.1f} to {speed.high:,.1f})",
            )
            for speed in report.speeds
        ),
        notes=(
            f"Measured by imbik bench; the figures show prompts of {one.isl} and answers of {one.osl} tokens,"
            f" {one.concurrency} at once, asked by {one.machine}. Speeds of different machines and engines are not"
            " to be compared.",
        ),
        pictures=FIGURES,
    )
