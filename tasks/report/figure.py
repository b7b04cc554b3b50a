"""Shared by the report's figures: colors, frameless axes, and SVG whose bytes depend only on the figure."""

from __future__ import annotations

import io
from typing import Any

COLORS = ("#2f6fdb", "#d9622b", "#2a9d74", "#a24bc4", "#b8860b", "#c0392b")
INK, FAINT = "#6b7280", "#d1d5db"
DARK = {
    INK: "#b3bac6",
    FAINT: "#3b4556",
    "#2f6fdb": "#7aa7f7",
    "#d9622b": "#f08c5a",
    "#2a9d74": "#54c79c",
    "#a24bc4": "#c88be2",
    "#b8860b": "#dcae3f",
    "#c0392b": "#ec7a6d",
}
"""Each color on a dark page."""
MARKERS = "osv^Dd"


def styles(count: int) -> list[tuple[str, str]]:
    """A color and a marker for each of `count` lines; markers change when the colors begin again."""
    return [(COLORS[n % len(COLORS)], MARKERS[n // len(COLORS) % len(MARKERS)]) for n in range(count)]


def figure(rows: int = 1) -> tuple[Any, list[Any]]:
    """An empty figure and its panels, stacked over one x axis; the first is the tallest."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(6.4, 3.9 + 2.2 * (rows - 1)), layout="constrained")
    FigureCanvasSVG(canvas)
    panels = list(canvas.subplots(rows, 1, squeeze=False, sharex=True, height_ratios=[3.9] + [2.2] * (rows - 1))[:, 0])
    for axes in panels:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(FAINT)
        axes.tick_params(colors=INK, labelsize=9)
        axes.grid(True, color=FAINT, linewidth=0.5, alpha=0.6)
    return canvas, panels


def svg(canvas: Any) -> str:
    """The figure as SVG text."""
    import matplotlib

    stream = io.StringIO()
    # A fixed salt and no date: the same report gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "imbik", "svg.fonttype": "none"}):
        canvas.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def themed(text: str) -> str:
    """SVG for a page: each color is a variable of the page's style, named after its digits, which a dark page sets
    anew."""
    for color in DARK:
        text = text.replace(color, f"var(--c{color[1:]}, {color})")
    return text
