"""The report's picture of how the students learned: validation loss over tokens with what the fitted law expects,
scores below it."""

from __future__ import annotations

from typing import Any

from tasks.report.figure import COLORS, INK, figure, svg


def draw(report: dict[str, Any]) -> str:
    """As SVG: loss, then KL with the law, dashed as far as twice the tokens, with its 95% interval, then scores where
    there are any."""
    from matplotlib.ticker import EngFormatter

    learning: dict[str, dict[str, Any]] = report["learning"]
    scored = any(about["evaluated"]["mmlu"] for about in learning.values())
    canvas, panels = figure(rows=3 if scored else 2)
    _losses(panels[0], report)
    _divergences(panels[1], learning)
    if scored:
        _scores(panels[2], report)
    panels[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[-1].set_xlabel("tokens distilled on", color=INK, fontsize=9)
    return svg(canvas)


def _losses(axes: Any, report: dict[str, Any]) -> None:
    # Curves are measured on the validation split while learning, the table on the test split; the teacher's level is
    # the table's.
    level = report["rows"][0]["val_loss"]
    axes.axhline(level, color=INK, linewidth=1, linestyle=":")
    axes.annotate(
        "teacher (test split)",
        (1, level),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="top",
        fontsize=9,
        color=INK,
    )
    axes.margins(y=0.1)
    for color, (name, about) in zip(COLORS, report["learning"].items(), strict=False):
        axes.plot(about["tokens"], about["val_loss"], color=color, linewidth=2, marker="o", markersize=3, label=name)
        _law(axes, color, about, "val_loss")
        if about["kept"] and about["kept"]["step"] != about["kept"]["trained"]:
            axes.axvline(about["kept"]["tokens"], color=color, linewidth=1, alpha=0.5)
    axes.set_ylabel("validation loss, nats per token", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _divergences(axes: Any, learning: dict[str, dict[str, Any]]) -> None:
    for color, about in zip(COLORS, learning.values(), strict=False):
        if not about["val_kl"]:
            continue
        axes.plot(about["tokens"], about["val_kl"], color=color, linewidth=2, marker="o", markersize=3)
        _law(axes, color, about, "val_kl")
    lowest = min((min(about["val_kl"]) for about in learning.values() if about["val_kl"]), default=0.0)
    if lowest > 0:
        axes.set_yscale("log")
        axes.set_ylim(bottom=lowest / 4)
    axes.set_ylabel("KL, nats per token", color=INK, fontsize=9)


def _law(axes: Any, color: str, about: dict[str, Any], metric: str) -> None:
    if about["fitted"] == metric and not about["law"]["undetermined"]:
        curve = about["law"]["curve"]
        axes.plot(curve["tokens"], curve["loss"], color=color, linewidth=1, linestyle="--")
        axes.fill_between(curve["tokens"], curve["low"], curve["high"], color=color, alpha=0.12, linewidth=0)


def _scores(axes: Any, report: dict[str, Any]) -> None:
    for color, about in zip(COLORS, report["learning"].values(), strict=False):
        scores = about["evaluated"]
        middle, low, high = ([value * 100 for value in scores[name]] for name in ("mmlu", "mmlu_low", "mmlu_high"))
        reach = [
            [score - end for score, end in zip(middle, low, strict=True)],
            [end - score for score, end in zip(middle, high, strict=True)],
        ]
        axes.errorbar(
            scores["tokens"], middle, yerr=reach, color=color, linewidth=1.5, marker="o", markersize=3, elinewidth=0.8
        )
    if report["chance"]:
        axes.axhline(report["chance"] * 100, color=INK, linewidth=1, linestyle=":")
    axes.set_ylabel("questions answered, %", color=INK, fontsize=9)
