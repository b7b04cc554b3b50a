"""The figure of a scaling law: measured losses by tokens, a color per size, and the chosen form up to what its
back-test supports."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.analysis.scaling.answers import Oracle
from tasks.analysis.scaling.ladder import FLOPS
from tasks.report.figure import INK, figure, svg

CURVES = 6
"""At most: more sizes than that are told apart by color alone."""


def draw(oracle: Oracle) -> str:
    """As SVG. A form that speaks of one number of tokens only is drawn by size."""
    from matplotlib import colormaps, colors
    from matplotlib.ticker import EngFormatter

    canvas, (axes,) = figure()
    ladder = oracle.ladder
    scale = colors.LogNorm(float(ladder.params.min()), float(ladder.params.max()) * 1.5)
    general = oracle.choice.form.general
    axes.scatter(
        ladder.tokens if general else ladder.params,
        ladder.loss,
        c=ladder.params,
        norm=scale,
        cmap="viridis",
        s=14,
        linewidths=0,
        alpha=np.where(ladder.longest | general, 1.0, 0.2),
    )
    if general:
        for size in _some(ladder.params):
            _curve(axes, oracle, size, colormaps["viridis"](scale(size)), EngFormatter(places=1, sep=""))
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, title="parameters", title_fontsize=8)
    else:
        _by_size(axes, oracle)
    if ladder.floor:
        axes.axhline(ladder.floor, color=INK, linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.yaxis.set_minor_formatter("{x:.3g}")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("tokens" if general else "parameters, at the longest training", color=INK, fontsize=9)
    axes.set_ylabel("loss, nats per token; dashed: beyond the points", color=INK, fontsize=9)
    return svg(canvas)


def _some(params: Any) -> list[float]:
    sizes = np.unique(params)
    return [float(sizes[index]) for index in np.unique(np.linspace(0, len(sizes) - 1, CURVES).round().astype(int))]


def _curve(axes: Any, oracle: Oracle, size: float, color: Any, named: Any) -> None:
    """A size's losses: solid up to its longest measured training, dashed up to what the back-test supports."""
    limits, tokens = oracle.choice.limits, oracle.ladder.tokens
    measured = float(tokens[oracle.ladder.params == size].max())
    end = max(min(limits["tokens"], limits["compute"] / FLOPS / size), measured)
    for start, stop, style in ((float(tokens.min()), measured, "-"), (measured, end, "--")):
        along = np.geomspace(start, stop, 60)
        label = named(size) if style == "-" else None
        axes.plot(along, oracle.fit.loss(size, along), color=color, linewidth=1.2, linestyle=style, label=label)


def _by_size(axes: Any, oracle: Oracle) -> None:
    params, limits = oracle.ladder.params, oracle.choice.limits
    for start, stop, style in ((params.min(), params.max(), "-"), (params.max(), limits["size"], "--")):
        along = np.geomspace(float(start), float(stop), 60)
        loss = oracle.fit.loss(along, limits["tokens"])
        axes.plot(along, loss, color=INK, linewidth=1.2, linestyle=style)
