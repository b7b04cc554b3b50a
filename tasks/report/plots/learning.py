"""The figure of the students' training: validation loss and KL by tokens with the fitted law, and scores below."""

from __future__ import annotations

from typing import Any

from conf.report.learning import FittedLaw, Learning
from conf.report.report import Report
from tasks.report.figure import COLORS, INK, figure, styles, svg


def draw(report: Report) -> str:
    """As SVG: loss, then KL with the law (dashed, up to twice the tokens) and its 95% interval, then scores if any."""
    from matplotlib.ticker import EngFormatter

    scored = any(training.evaluated.mmlu for training in report.learning.values())
    canvas, panels = figure(rows=3 if scored else 2)
    _losses(panels[0], report)
    _divergences(panels[1], report.learning)
    if scored:
        _scores(panels[2], report)
    panels[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[-1].set_xlabel("distillation tokens", color=INK, fontsize=9)
    return svg(canvas)


def _losses(axes: Any, report: Report) -> None:
    axes.margins(y=0.1)
    # The teacher's loss in the table is of the test split, and these are of the validation split: it is not drawn.
    for (color, marker), (name, training) in zip(styles(len(report.learning)), report.learning.items(), strict=True):
        axes.plot(training.tokens, training.val_loss, color=color, linewidth=2, marker=marker, markersize=3, label=name)
        _law(axes, color, training, "val_loss")
        if training.kept and training.kept.step != training.kept.trained:
            axes.axvline(training.kept.tokens, color=color, linewidth=1, alpha=0.5)
    axes.set_ylabel("validation loss, nats per token", color=INK, fontsize=9)
    many = len(report.learning) > len(COLORS)
    axes.legend(frameon=False, fontsize=7 if many else 9, labelcolor=INK, ncols=2 if many else 1)


def _divergences(axes: Any, learning: dict[str, Learning]) -> None:
    for (color, marker), training in zip(styles(len(learning)), learning.values(), strict=True):
        if training.val_kl:
            axes.plot(training.tokens, training.val_kl, color=color, linewidth=2, marker=marker, markersize=3)
            _law(axes, color, training, "val_kl")
    lowest = min((min(training.val_kl) for training in learning.values() if training.val_kl), default=0.0)
    if lowest > 0:
        axes.set_yscale("log")
        axes.set_ylim(bottom=lowest / 4)
    axes.set_ylabel("KL, nats per token", color=INK, fontsize=9)


def _law(axes: Any, color: str, training: Learning, metric: str) -> None:
    if training.fitted == metric and isinstance(training.law, FittedLaw):
        curve = training.law.curve
        axes.plot(curve.tokens, curve.loss, color=color, linewidth=1, linestyle="--")
        axes.fill_between(curve.tokens, curve.low, curve.high, color=color, alpha=0.12, linewidth=0)


def _scores(axes: Any, report: Report) -> None:
    for (color, marker), training in zip(styles(len(report.learning)), report.learning.values(), strict=True):
        scores = training.evaluated
        middle, low, high = (
            [share * 100 for share in shares] for shares in (scores.mmlu, scores.mmlu_low, scores.mmlu_high)
        )
        reach = [
            [score - end for score, end in zip(middle, low, strict=True)],
            [end - score for score, end in zip(middle, high, strict=True)],
        ]
        tokens = scores.tokens[: len(middle)]  # benchmarks may be asked without these questions
        axes.errorbar(
            tokens,
            middle,
            yerr=reach,
            color=color,
            linewidth=1.5,
            marker=marker,
            markersize=3,
            elinewidth=0.8,
        )
    if report.chance:
        axes.axhline(report.chance * 100, color=INK, linewidth=1, linestyle=":")
    axes.set_ylabel("correct answers, %", color=INK, fontsize=9)
