"""What the report's figures share: looks that tell lines apart, panels, and the same bytes each time."""

from __future__ import annotations

import pytest

from tasks.report.figure import COLORS, DARK, FAINT, INK, MARKERS, figure, styles, svg, themed


def test_no_two_lines_look_alike() -> None:
    most = len(COLORS) * len(MARKERS)
    found = styles(most + 1)
    assert len(set(found[:most])) == most and found[most] == found[0]
    assert [color for color, _ in found[: len(COLORS)]] == list(COLORS)
    assert {marker for _, marker in found[: len(COLORS)]} == {MARKERS[0]}, "few lines differ in color alone"


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_panels_are_stacked_over_one_axis(rows: int) -> None:
    canvas, panels = figure(rows)
    assert len(panels) == rows and len(set(map(id, panels[0].get_shared_x_axes().get_siblings(panels[0])))) == rows
    canvas.canvas.draw()
    heights = [panel.get_position().height for panel in panels]
    assert heights == sorted(heights, reverse=True) and len({round(height, 3) for height in heights[1:]}) <= 1
    assert rows == 1 or heights[0] > 1.5 * heights[1]
    one, _ = figure()
    taller = canvas.get_size_inches()[1] - one.get_size_inches()[1]
    assert taller == pytest.approx(2.2 * (rows - 1)), "each panel adds its own height"
    assert not any(panel.spines[side].get_visible() for panel in panels for side in ("top", "right"))
    assert all(panel.spines[side].get_visible() for panel in panels for side in ("left", "bottom"))


def drawn() -> str:
    canvas, (axes,) = figure()
    axes.plot([1, 2], [3, 4], color=COLORS[0], marker="o")
    axes.set_xlabel("a label", color=INK)
    return svg(canvas)


def test_a_figure_has_the_same_bytes_each_time() -> None:
    text = drawn()
    assert text == drawn() and text.startswith("<svg")
    assert "a label" in text, "text stays text"
    assert "<dc:date>" not in text


def test_a_page_may_turn_the_colors_dark() -> None:
    text = themed(f'fill="{COLORS[0]}" stroke="{INK}" other="#123456"')
    assert text == f'fill="var(--c{COLORS[0][1:]}, {COLORS[0]})" stroke="var(--c{INK[1:]}, {INK})" other="#123456"'
    assert set(DARK) == {*COLORS, INK, FAINT} and len(set(DARK.values())) == len(DARK)
