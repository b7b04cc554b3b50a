"""The report's pictures as SVG: validation loss while the students learn, score against size, importance of the teacher's layers."""

from __future__ import annotations

import io
from typing import Any

COLORS = ("#2f6fdb", "#d9622b", "#2a9d74", "#a24bc4", "#b8860b", "#c0392b")
INK, FAINT = "#6b7280", "#d1d5db"


def draw(report: dict[str, Any]) -> dict[str, str]:
    """SVG texts by file name; a picture with nothing to show is left out."""
    drawings = {}
    if report["curves"]:
        drawings["validation-loss"] = _losses(report)
    drawings["size"] = _sizes(report)
    if report["layer_importance"]:
        drawings["layer-importance"] = _layers(report["layer_importance"])
    return drawings


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.9), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(True, color=FAINT, linewidth=0.5, alpha=0.6)
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib

    text = io.StringIO()
    # A fixed salt and no date: the same report gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "imbik", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _losses(report: dict[str, Any]) -> str:
    figure, axes = _figure()
    # Curves are measured on the validation split while learning, the table on the test split; the teacher's level is the table's.
    level = report["rows"][0]["val_loss"]
    axes.axhline(level, color=INK, linewidth=1, linestyle="--")
    axes.annotate("teacher (test split)", (1, level), xycoords=("axes fraction", "data"), ha="right", va="top", fontsize=9, color=INK)
    axes.margins(y=0.1)
    for color, (name, curve) in zip(COLORS, report["curves"].items(), strict=False):
        axes.plot(curve["step"], curve["val_loss"], color=color, linewidth=2, marker="o", markersize=3, label=name)
    axes.set_xlabel("distillation step", color=INK, fontsize=9)
    axes.set_ylabel("validation loss, nats per token", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return _svg(figure)


def _layers(scores: dict[str, float]) -> str:
    figure, axes = _figure()
    layers = sorted(int(layer) for layer in scores)
    axes.bar(layers, [scores[str(layer)] for layer in layers], color=COLORS[0], width=0.7)
    axes.set_xticks(layers if len(layers) <= 16 else layers[:: len(layers) // 12])
    axes.set_yscale("log")
    axes.set_xlabel("layer", color=INK, fontsize=9)
    axes.set_ylabel("importance (1 - cosine, summed)", color=INK, fontsize=9)
    return _svg(figure)


def _sizes(report: dict[str, Any]) -> str:
    figure, axes = _figure()
    rows = report["rows"]
    scored = rows[0]["mmlu"] is not None
    families = [None, *dict.fromkeys(row["student"] for row in rows if row["student"])]
    for row in rows:
        color = INK if row["student"] is None else COLORS[(families.index(row["student"]) - 1) % len(COLORS)]
        size, value = row["bytes"] / 1e6, row["mmlu"] * 100 if scored else row["val_loss"]
        if scored:
            low, high = (bound * 100 for bound in row["mmlu_ci95"])
            axes.plot([size, size], [low, high], color=color, linewidth=1, alpha=0.5)
        hollow = row["stage"] == "prune"
        axes.plot([size], [value], marker="o", color=color, markerfacecolor="none" if hollow else color, markersize=7)
        axes.annotate(row["model"], (size, value), xytext=(3, 6), textcoords="offset points", fontsize=8, color=INK, rotation=40)
    if scored and report["chance"]:
        axes.axhline(report["chance"] * 100, color=INK, linewidth=1, linestyle=":")
        axes.annotate("chance", (0, report["chance"] * 100), xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color=INK)
    axes.margins(x=0.12, y=0.1)
    axes.set_ylim(top=axes.get_ylim()[1] + 0.22 * (axes.get_ylim()[1] - axes.get_ylim()[0]))  # room for the labels
    if scored:
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    axes.set_xlabel("weights on disk, MB", color=INK, fontsize=9)
    axes.set_ylabel("questions answered, %" if scored else "test loss, nats per token", color=INK, fontsize=9)
    return _svg(figure)
