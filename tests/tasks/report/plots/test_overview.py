"""The main figures: what they draw and what they leave out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from conf.report.learning import Evaluations, Learning, NoLaw
from tasks.report import figure
from tasks.report.plots import learning, overview
from tests.fixtures.figures import keep_canvases, level, lines, notes, ticks
from tests.fixtures.report import report, row


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def trained(loss: float) -> Learning:
    return Learning(
        tokens=(0, 100, 200),
        val_loss=(loss + 1, loss + 0.5, loss),
        val_kl=(1.0, 0.5, 0.25),
        fitted="val_kl",
        evaluated=Evaluations(),
        kept=None,
        law=NoLaw(undetermined="too few points"),
        backtest=None,
    )


def test_validation_curves_hold_no_test_loss() -> None:
    made = report(row("teacher", "teacher", val_loss=0.123), row("small"), learning={"small": trained(1.0)})
    drawn = learning.draw(made)
    assert "small" in texts(drawn) and not any("teacher" in text for text in texts(drawn))
    higher = made.model_copy(update={"rows": (row("teacher", "teacher", val_loss=9.0), *made.rows[1:])})
    assert learning.draw(higher) == drawn, "the teacher's test loss moves the figure"


def test_every_student_has_a_curve() -> None:
    many = {f"student-{number}": trained(1.0 + number / 10) for number in range(9)}
    drawn = learning.draw(report(row("teacher", "teacher"), learning=many))
    assert {text for text in texts(drawn) if text.startswith("student-")} == set(many)


def test_bars_begin_at_zero() -> None:
    drawn = overview.draw(report(row("teacher", "teacher"), layer_importance={"1": 6.5, "2": 0.4}))["layer-importance"]
    assert "0" in texts(drawn) and {"6.5", "0.4"} <= set(texts(drawn))


@pytest.mark.parametrize(("layers", "ticks"), [(16, 16), (17, 17), (24, 12), (36, 12), (47, 16)])
def test_many_layers_are_numbered_at_even_steps(layers: int, ticks: int) -> None:
    scores = {str(layer): 1000.0 for layer in range(101, 101 + layers)}
    drawn = overview.draw(report(row("teacher", "teacher"), layer_importance=scores))["layer-importance"]
    numbered = [int(text) for text in texts(drawn) if re.fullmatch(r"1\d\d", text)]
    assert len(numbered) == ticks and numbered[0] == 101
    assert len(set(np.diff(numbered))) == 1


def test_all_models_are_named_if_they_are_few() -> None:
    rows = [row("teacher", "teacher"), *(row(f"m{number}", bytes=1000 + number) for number in range(8))]
    named = set(texts(overview.draw(report(*rows))["size"]))
    assert {each.model for each in rows} <= named


def test_of_many_models_the_best_of_their_size_are_named() -> None:
    rows = [row("teacher", "teacher", bytes=10_000_000, val_loss=1.0)]
    rows += [row(f"m{number}", bytes=1_000_000 + number, val_loss=2.0 - number / 100) for number in range(30)]
    rows += [row("worse", bytes=2_000_000, val_loss=3.0)]
    named = set(texts(overview.draw(report(*rows))["size"]))
    assert {"teacher", "m0", "m29"} <= named and "worse" not in named


def test_a_page_sets_each_color_anew_in_the_dark() -> None:
    themed = figure.themed('<path style="stroke: #2f6fdb; fill: #6b7280"/>')
    assert themed == '<path style="stroke: var(--c2f6fdb, #2f6fdb); fill: var(--c6b7280, #6b7280)"/>'
    assert set(figure.COLORS) | {figure.INK, figure.FAINT} == set(figure.DARK)


@pytest.fixture
def _canvases(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_canvases(monkeypatch, overview)


def panel(name: str, *rows: Any, **fields: Any) -> Any:
    canvas: Any = overview.draw(report(*rows, **fields))[name]
    (axes,) = canvas.axes
    return axes


SCORED = {"mmlu": 0.5, "mmlu_ci95": (0.375, 0.75)}


@pytest.mark.usefixtures("_canvases")
def test_scores_and_intervals_are_in_percent_by_megabytes() -> None:
    rows = [row("teacher", "teacher", bytes=8_000_000, **SCORED), row("small", bytes=2_500_000, val_loss=1.5, **SCORED)]
    axes = panel("size", *rows, chance=0.25)
    assert lines(axes)[:2] == [([8, 8], [37.5, 75]), ([8], [50])]
    assert lines(axes)[2:4] == [([2.5, 2.5], [37.5, 75]), ([2.5], [50])]
    assert level(lines(axes)[4]) == 25
    assert notes(axes) == [("chance", (0, 25)), ("teacher", (8, 50)), ("small", (2.5, 50))]
    assert axes.get_ylabel() == "correct answers, %"


@pytest.mark.usefixtures("_canvases")
def test_without_scores_the_loss_is_drawn_by_size() -> None:
    axes = panel("size", row("teacher", "teacher", bytes=8_000_000), row("small", bytes=2e6, val_loss=1.5), chance=0.25)
    assert lines(axes) == [([8], [1]), ([2], [1.5])]
    assert axes.get_ylabel() == "test loss, nats per token"


@pytest.mark.usefixtures("_canvases")
@pytest.mark.parametrize(("score", "ends"), [((0.95, (0.9, 1.0)), (0, 100)), ((0.02, (0.0, 0.04)), (0, 100))])
def test_no_tick_is_beyond_0_and_100_percent(score: Any, ends: tuple[float, float]) -> None:
    wide = row("teacher", "teacher", mmlu=score[0], mmlu_ci95=score[1])
    other = row("small", bytes=4000, mmlu=0.5, mmlu_ci95=(0.0, 1.0))
    places = [place for place, _ in ticks(panel("size", wide, other).yaxis)]
    assert (min(places), max(places)) == ends


@pytest.mark.usefixtures("_canvases")
def test_a_student_keeps_its_color_and_pruned_points_are_hollow() -> None:
    rows = [row("teacher", "teacher"), row("a-pruned", "prune"), row("a"), row("b"), row("a-fp8", "quantize")]
    points = panel("size", *rows).lines
    assert [point.get_color() for point in points] == [
        figure.INK,
        figure.COLORS[0],
        figure.COLORS[0],
        figure.COLORS[1],
        figure.COLORS[0],
    ]
    assert [point.get_markerfacecolor() == "none" for point in points] == [False, True, False, False, False]


@pytest.mark.usefixtures("_canvases")
def test_colors_of_students_begin_again() -> None:
    names = [f"s{number}" for number in range(len(figure.COLORS) + 1)]
    points = panel("size", row("teacher", "teacher"), *map(row, names)).lines
    assert points[-1].get_color() == points[1].get_color() != points[2].get_color()


@pytest.mark.usefixtures("_canvases")
@pytest.mark.parametrize(("layers", "valued"), [(16, 16), (17, 0)])
def test_few_bars_show_their_values(layers: int, valued: int) -> None:
    axes = panel("layer-importance", row("teacher", "teacher"), layer_importance={str(n): n / 7 for n in range(layers)})
    assert [bar.get_height() for bar in axes.patches] == [n / 7 for n in range(layers)]
    assert [bar.get_center()[0] for bar in axes.patches] == pytest.approx(list(range(layers)))
    assert [text.get_text() for text in axes.texts] == [f"{n / 7:.3g}" for n in range(valued)]
    assert axes.get_ylim()[0] == 0 and axes.get_axisbelow() is True


@pytest.mark.parametrize(("models", "named"), [(overview.MOST_LABELS, overview.MOST_LABELS), (25, 2)])
def test_many_models_are_not_all_named(models: int, named: int) -> None:
    rows = [row("teacher", "teacher"), *(row(f"m{n}", bytes=3000 + n, val_loss=2.0) for n in range(models - 1))]
    winner = {"model": "m5", "registered": "m5", "sentence": "named"}
    assert len(overview._labelled(report(*rows, winner=winner))) == named


def test_of_equal_models_the_smallest_is_named() -> None:
    rows = [row("teacher", "teacher", bytes=9000, val_loss=0.5)]
    rows += [row(f"m{n}", bytes=1000 + n, val_loss=2.0) for n in range(30)]
    assert overview._labelled(report(*rows)) - {""} == {"teacher", "m0"}


@pytest.mark.usefixtures("_canvases")
def test_a_label_far_from_its_point_has_a_line_to_it() -> None:
    """Names of points in one place do not all fit beside it."""
    rows = [row("teacher", "teacher"), *(row(f"student-number-{n}") for n in range(12))]
    axes = panel("size", *rows)
    for text in axes.texts:
        across, up = text.xyann  # the middle of the name, in points from its point
        beside = max(abs(across) - len(text.get_text()) * overview.CHARACTER / 2, 0.0)
        above = max(abs(up) - overview.FONT * 1.2 / 2, 0.0)
        far = float(beside**2 + above**2) ** 0.5 > overview.FAR
        assert (text.arrow_patch is not None) is far, text.get_text()
    assert {text.arrow_patch is None for text in axes.texts} == {True, False}
