"""The report's figures of pruning: ranks of the candidates before and after distillation, and the cost of each axis."""

from __future__ import annotations

from conf.report.pruning import Search, Sweep
from conf.report.report import Report
from tasks.report.figure import COLORS, INK, figure, svg
from tasks.report.sections.pruning import AXIS_NAMES


def draw(report: Report) -> dict[str, str]:
    """SVG by figure name."""
    figures = {f"ranks-{student}": _ranks(search) for student, search in report.searches.items() if search.rounds}
    return figures | ({"sweep": _sweep(report.sweep)} if report.sweep else {})


def _ranks(search: Search) -> str:
    """Ranks of the distilled candidates: after the cut, and after each round that they reached."""
    canvas, (axes,) = figure()
    distilled = [candidate for candidate in search.candidates if candidate.ranks]
    for index, candidate in enumerate(distilled):
        won = candidate.number == search.winner
        axes.plot(
            range(len(candidate.ranks)),
            candidate.ranks,
            color=COLORS[index % len(COLORS)],
            linewidth=3 if won else 1.5,
            marker="o",
            markersize=6 if won else 4,
        )
        end = (len(candidate.ranks) - 1, candidate.ranks[-1])
        label = f"c{candidate.number}{' wins' if won else ''}"
        axes.annotate(label, end, xytext=(7, -3), textcoords="offset points", fontsize=9, color=INK)
    rounds = [f"round {number}\n{entry.tokens:,} tokens" for number, entry in enumerate(search.rounds, 1)]
    axes.set_xticks(range(len(rounds) + 1), ["after cut", *rounds])
    axes.set_yticks(range(1, len(distilled) + 1))
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.12)
    axes.set_ylabel("rank by validation loss", color=INK, fontsize=9)
    return svg(canvas)


def _sweep(sweep: Sweep) -> str:
    """Loss by the share of parameters kept, a line for each axis."""
    canvas, (axes,) = figure()
    teacher = sweep.teacher
    for color, axis in zip(COLORS, dict.fromkeys(point.axis for point in sweep.points), strict=False):
        points = [point for point in sweep.points if point.axis == axis]
        shares = [100.0, *(100 * point.params / teacher.params for point in points)]
        losses = [teacher.val_loss, *(point.val_loss for point in points)]
        axes.plot(shares, losses, color=color, linewidth=2, marker="o", markersize=4, label=AXIS_NAMES[axis])
    axes.invert_xaxis()
    axes.set_xlabel("parameters kept, %", color=INK, fontsize=9)
    axes.set_ylabel("validation loss before distillation, nats per token", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return svg(canvas)
