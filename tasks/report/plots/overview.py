"""The report's main figures as SVG: training of the students, score by size, and importance of the teacher's layers."""

from __future__ import annotations

from conf.report.report import Report
from tasks.report.figure import COLORS, INK, figure, svg
from tasks.report.plots import learning, pruning


def draw(report: Report) -> dict[str, str]:
    """SVG by figure name; a figure with nothing to show is left out."""
    figures = {}
    if report.learning:
        figures["validation-loss"] = learning.draw(report)
    figures["size"] = _sizes(report)
    if report.layer_importance:
        figures["layer-importance"] = _layers(report.layer_importance)
    return figures | pruning.draw(report)


def _layers(scores: dict[str, float]) -> str:
    canvas, (axes,) = figure()
    layers = sorted(int(layer) for layer in scores)
    axes.bar(layers, [scores[str(layer)] for layer in layers], color=COLORS[0], width=0.7)
    axes.set_xticks(layers if len(layers) <= 16 else layers[:: len(layers) // 12])
    axes.set_yscale("log")
    axes.set_xlabel("layer", color=INK, fontsize=9)
    axes.set_ylabel("importance (1 - cosine, summed)", color=INK, fontsize=9)
    return svg(canvas)


def _sizes(report: Report) -> str:
    canvas, (axes,) = figure()
    scored = report.rows[0].mmlu is not None
    families = [None, *dict.fromkeys(row.student for row in report.rows if row.student)]
    for row in report.rows:
        color = INK if row.student is None else COLORS[(families.index(row.student) - 1) % len(COLORS)]
        size, value = row.bytes / 1e6, row.val_loss
        if scored and row.mmlu is not None and row.mmlu_ci95:
            value = row.mmlu * 100
            low, high = (bound * 100 for bound in row.mmlu_ci95)
            axes.plot([size, size], [low, high], color=color, linewidth=1, alpha=0.5)
        hollow = row.stage == "prune"
        axes.plot([size], [value], marker="o", color=color, markerfacecolor="none" if hollow else color, markersize=7)
        axes.annotate(
            row.model, (size, value), xytext=(3, 6), textcoords="offset points", fontsize=8, color=INK, rotation=40
        )
    if scored and report.chance:
        level = report.chance * 100
        axes.axhline(level, color=INK, linewidth=1, linestyle=":")
        axes.annotate("chance", (0, level), xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color=INK)
    axes.margins(x=0.12, y=0.1)
    axes.set_ylim(top=axes.get_ylim()[1] + 0.22 * (axes.get_ylim()[1] - axes.get_ylim()[0]))  # room for the labels
    if scored:
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    axes.set_xlabel("weights on disk, MB", color=INK, fontsize=9)
    axes.set_ylabel("correct answers, %" if scored else "test loss, nats per token", color=INK, fontsize=9)
    return svg(canvas)
