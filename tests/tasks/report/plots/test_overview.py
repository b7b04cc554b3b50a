"""The main figures: what they draw and what they leave out."""

from __future__ import annotations

import re

import numpy as np
import pytest

from conf.report.learning import Evaluations, Learning, NoLaw
from tasks.report import figure
from tasks.report.plots import learning, overview
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
