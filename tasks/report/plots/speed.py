"""Figures of score against throughput and against size: a panel for each benchmark."""

from __future__ import annotations

from typing import Any

from conf.report.report import Report
from tasks.report.figure import COLORS, INK, figure, svg
from tasks.report.sections.speed import drawn, scores_of


def draw(report: Report) -> dict[str, str]:
    """SVG by figure name; empty where no model has both a score and a measured speed."""
    speeds = drawn(report)
    if not speeds:
        return {}
    sizes = {row.model: row.bytes / 1e6 for row in report.rows if row.model in speeds}
    rates = {model: one.tokens_per_second for model, one in speeds.items()}
    return {
        "throughput": _scores(report, rates, "output tokens per second"),
        "score-size": _scores(report, sizes, "weights on disk, MB"),
    }


def _scores(report: Report, places: dict[str, float], title: str) -> str:
    """Scores of the models in `places`, by their place on the x axis."""
    panels = {name: scores for name, scores in scores_of(report).items() if scores.keys() & places.keys()}
    canvas, axes = figure(rows=len(panels))
    for panel, (name, scores) in zip(axes, panels.items(), strict=True):
        for number, (model, place) in enumerate(places.items()):
            if model in scores:
                _point(panel, model, place, scores[model], COLORS[number % len(COLORS)])
        panel.set_ylabel(f"{name}, % right", color=INK, fontsize=9)
        panel.margins(x=0.2, y=0.16)
    axes[-1].set_xlabel(title, color=INK, fontsize=9)
    return svg(canvas)


def _point(axes: Any, model: str, place: float, score: tuple[float, float, float], color: str) -> None:
    value, low, high = (share * 100 for share in score)
    axes.plot([place, place], [low, high], color=color, linewidth=1, alpha=0.5)
    axes.plot([place], [value], marker="o", color=color, markersize=6)
    axes.annotate(model, (place, value), xytext=(6, 4), textcoords="offset points", fontsize=8, color=INK)
