"""The figure of gradients while training: the norm before clipping by tokens, and the steps that were skipped."""

from __future__ import annotations

from conf.report.gradients import Gradients
from tasks.report.figure import COLORS, INK, figure, styles, svg


def draw(gradients: dict[str, Gradients]) -> str:
    """As SVG, on a logarithmic scale, with a dotted line where gradients are clipped."""
    from matplotlib.ticker import EngFormatter

    canvas, (axes,) = figure()
    for (color, marker), (name, each) in zip(styles(len(gradients)), gradients.items(), strict=True):
        many = marker if len(gradients) > len(COLORS) else None
        axes.plot(each.tokens, each.norm, color=color, linewidth=1.2, marker=many, markersize=2, label=name)
        places = [skipped.step * each.tokens[-1] / each.steps for skipped in each.spikes.skipped] if each.spikes else []
        axes.plot(places, [each.highest] * len(places), color=color, linestyle="none", marker="x", markersize=6)
    for clip in {each.clip_grad for each in gradients.values()}:
        axes.axhline(clip, color=INK, linewidth=1, linestyle=":")
        axes.annotate(
            "clipped above", (0, clip), xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color=INK
        )
    if min(min(each.norm) for each in gradients.values()) > 0:
        axes.set_yscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("tokens", color=INK, fontsize=9)
    axes.set_ylabel("norm of the gradient", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=7 if len(gradients) > len(COLORS) else 9, labelcolor=INK)
    return svg(canvas)
