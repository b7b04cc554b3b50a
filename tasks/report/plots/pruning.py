"""The report's pictures of pruning: how candidates ranked before and after teaching, and what each axis costs by
itself."""

from __future__ import annotations

from typing import Any

from tasks.report.figure import COLORS, INK, figure, svg


def draw(report: dict[str, Any]) -> dict[str, str]:
    """SVG texts by file name."""
    drawings = {
        f"ranks-{student}": _ranks(played) for student, played in report["searches"].items() if played["rounds"]
    }
    return drawings | ({"sweep": _sweep(report["sweep"])} if report["sweep"] else {})


def _ranks(played: dict[str, Any]) -> str:
    """Ranks of the candidates that were taught: untaught, and after each round they reached."""
    canvas, (axes,) = figure()
    taught = [candidate for candidate in played["candidates"] if candidate["ranks"]]
    for index, candidate in enumerate(taught):
        won = candidate["number"] == played["winner"]
        axes.plot(
            range(len(candidate["ranks"])),
            candidate["ranks"],
            color=COLORS[index % len(COLORS)],
            linewidth=3 if won else 1.5,
            marker="o",
            markersize=6 if won else 4,
        )
        end = (len(candidate["ranks"]) - 1, candidate["ranks"][-1])
        told = f"c{candidate['number']}{' wins' if won else ''}"
        axes.annotate(told, end, xytext=(7, -3), textcoords="offset points", fontsize=9, color=INK)
    rounds = len(played["rounds"])
    axes.set_xticks(
        range(rounds + 1),
        [
            "as cut",
            *(f"round {number}\n{entry['tokens']:,} tokens" for number, entry in enumerate(played["rounds"], 1)),
        ],
    )
    axes.set_yticks(range(1, len(taught) + 1))
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.12)
    axes.set_ylabel("rank by validation loss", color=INK, fontsize=9)
    return svg(canvas)


def _sweep(swept: dict[str, Any]) -> str:
    """Loss against parameters kept, a line for each axis."""
    canvas, (axes,) = figure()
    whole = swept["teacher"]
    for color, axis in zip(COLORS, dict.fromkeys(point["axis"] for point in swept["points"]), strict=False):
        points = [point for point in swept["points"] if point["axis"] == axis]
        shares = [100.0, *(100 * point["params"] / whole["params"] for point in points)]
        losses = [whole["val_loss"], *(point["val_loss"] for point in points)]
        axes.plot(shares, losses, color=color, linewidth=2, marker="o", markersize=4, label=axis)
    axes.invert_xaxis()
    axes.set_xlabel("parameters kept, %", color=INK, fontsize=9)
    axes.set_ylabel("validation loss untaught, nats per token", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return svg(canvas)
