"""The report's main figures as SVG: training of the students, score by size, and importance of the teacher's layers."""

from __future__ import annotations

import math
from typing import Any

from conf.report.report import Report
from tasks.report.figure import COLORS, INK, figure, svg
from tasks.report.plots import gradients, labels, learning, pruning
from tasks.report.sections.gradients import FIGURE

MOST_LABELS, MOST_VALUES = 24, 16
"""Models that are all named in the figure of sizes, and bars that show their values."""
FONT = 8
CHARACTER = 0.6 * FONT
"""Width of a character, in points, at most; pages choose the font."""
RADIUS, FAR = 5.0, 11.0
"""Of a point, and the distance from which a label has a line to it, in points."""


def draw(report: Report) -> dict[str, str]:
    """SVG by figure name; a figure with nothing to show is left out."""
    figures = {}
    if report.learning:
        figures["validation-loss"] = learning.draw(report)
    if report.gradients:
        figures[FIGURE] = gradients.draw(report.gradients)
    figures["size"] = _sizes(report)
    if report.layer_importance:
        figures["layer-importance"] = _layers(report.layer_importance)
    return figures | pruning.draw(report)


def _layers(scores: dict[str, float]) -> str:
    """Bars from zero, so that their lengths compare; a few of them with their values, as small ones look alike."""
    canvas, (axes,) = figure()
    layers = sorted(int(layer) for layer in scores)
    bars = axes.bar(layers, [scores[str(layer)] for layer in layers], color=COLORS[0], width=0.7)
    axes.set_ylim(bottom=0)
    axes.set_axisbelow(True)
    if len(layers) <= MOST_VALUES:
        axes.bar_label(bars, fmt="{:.3g}", fontsize=8, color=INK, padding=2)
    axes.set_xticks(layers if len(layers) <= 16 else layers[:: len(layers) // 12])
    axes.set_xlabel("layer", color=INK, fontsize=9)
    axes.set_ylabel("importance (1 - cosine, summed)", color=INK, fontsize=9)
    return svg(canvas)


def _sizes(report: Report) -> str:
    canvas, (axes,) = figure()
    scored = report.rows[0].mmlu is not None
    families = [None, *dict.fromkeys(row.student for row in report.rows if row.student)]
    points = []
    for row in report.rows:
        color = INK if row.student is None else COLORS[(families.index(row.student) - 1) % len(COLORS)]
        size, value = row.bytes / 1e6, row.val_loss
        if scored and row.mmlu is not None and row.mmlu_ci95:
            value = row.mmlu * 100
            low, high = (bound * 100 for bound in row.mmlu_ci95)
            axes.plot([size, size], [low, high], color=color, linewidth=1, alpha=0.5)
        hollow = row.stage == "prune"
        axes.plot([size], [value], marker="o", color=color, markerfacecolor="none" if hollow else color, markersize=7)
        points.append((size, value))
    if scored and report.chance:
        level = report.chance * 100
        axes.axhline(level, color=INK, linewidth=1, linestyle=":")
        axes.annotate("chance", (0, level), xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color=INK)
    axes.margins(x=0.2, y=0.16)
    if scored:
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    axes.set_xlabel("weights on disk, MB", color=INK, fontsize=9)
    axes.set_ylabel("correct answers, %" if scored else "test loss, nats per token", color=INK, fontsize=9)
    _label(canvas, axes, [row.model for row in report.rows], points, _labelled(report))
    return svg(canvas)


def _labelled(report: Report) -> set[str]:
    """Models whose names are written: all if they are few, else the teacher, the winner, and each model that is better
    than all smaller ones."""
    if len(report.rows) <= MOST_LABELS:
        return {row.model for row in report.rows}
    names, best = {report.rows[0].model, report.winner.model if report.winner else ""}, float("inf")
    for row in sorted(report.rows, key=lambda row: (row.bytes, row.val_loss)):
        if row.val_loss < best:
            names, best = names | {row.model}, row.val_loss
    return names


def _label(canvas: Any, axes: Any, names: list[str], points: list[tuple[float, float]], shown: set[str]) -> None:
    """Write names beside their points without overlaps, with a line to a point that is farther away."""
    canvas.draw_without_rendering()  # settles the layout, so that data have places in points
    scale = 72 / canvas.dpi
    places = [tuple(coordinate * scale for coordinate in axes.transData.transform(point)) for point in points]
    order = sorted(range(len(names)), key=lambda number: names[number] not in shown)  # hidden points are obstacles too
    sizes = [(len(names[number]) * CHARACTER, FONT * 1.2) if names[number] in shown else (0.0, 0.0) for number in order]
    frame = tuple(edge * scale for edge in axes.bbox.extents)
    boxes = labels.place([places[number] for number in order], sizes, frame, RADIUS)
    for number, (left, bottom, right, top) in zip(order, boxes, strict=True):
        if names[number] not in shown:
            continue
        x, y = places[number]
        near = (min(max(x, left), right) - x, min(max(y, bottom), top) - y)
        far = math.hypot(*near) > FAR
        note = axes.annotate(
            names[number],
            points[number],
            xytext=((left + right) / 2 - x, (bottom + top) / 2 - y),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=FONT,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3} if far else None,
        )
        note.set_in_layout(False)
