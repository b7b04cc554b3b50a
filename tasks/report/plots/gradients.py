"""The figure of gradients while training: the norm before clipping by tokens, and the steps that were skipped; below it
the largest attention logits, where they were logged."""

from __future__ import annotations

from typing import Any

from conf.report.gradients import Gradients
from tasks.report.figure import COLORS, INK, figure, styles, svg


def draw(gradients: dict[str, Gradients]) -> str:
    """As SVG, on logarithmic scales, with dotted lines where gradients are clipped and logits bounded."""
    watched = any(each.attention_logit for each in gradients.values())
    canvas, (axes, *below) = figure(2 if watched else 1)
    for (color, marker), (name, each) in zip(styles(len(gradients)), gradients.items(), strict=True):
        many = marker if len(gradients) > len(COLORS) else None
        look = {"color": color, "linewidth": 1.2, "marker": many, "markersize": 2}
        axes.plot(each.tokens, each.norm, label=name, **look)
        places = [skipped.step * each.tokens[-1] / each.steps for skipped in each.spikes.skipped] if each.spikes else []
        axes.plot(places, [each.highest] * len(places), color=color, linestyle="none", marker="x", markersize=6)
        if each.attention_logit:
            below[0].plot(each.tokens, each.attention_logit, label=name, **look)
    _finish(axes, "norm of the gradient", "clipped above", {each.clip_grad for each in gradients.values()})
    for other in below:
        _finish(other, "largest attention logit", "bound", {each.bound for each in gradients.values() if each.bound})
    (axes, *below)[-1].set_xlabel("tokens", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=7 if len(gradients) > len(COLORS) else 9, labelcolor=INK)
    return svg(canvas)


def _finish(axes: Any, name: str, what: str, bounds: set[float]) -> None:
    """Lines at `bounds`, and a logarithmic scale where all values are above 0."""
    from matplotlib.ticker import EngFormatter

    positive = all(value > 0 for line in axes.get_lines() for value in line.get_ydata())
    for bound in bounds:
        axes.axhline(bound, color=INK, linewidth=1, linestyle=":")
        axes.annotate(what, (0, bound), xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color=INK)
    if positive:
        axes.set_yscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_ylabel(name, color=INK, fontsize=9)
