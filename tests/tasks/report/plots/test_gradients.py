"""The figure of gradients: scale, lines at the norms of clipping, and legend."""

from __future__ import annotations

import re
from typing import Any

from conf.report.gradients import Gradients, Skipped, SkippedStep
from tasks.report.figure import COLORS, INK
from tasks.report.plots.gradients import draw

DOTTED = rf"stroke-dasharray: 1,1\.65[^\"]*stroke: {INK}"
"""matplotlib's dotted line, of width 1."""


def gradients(**changed: Any) -> Gradients:
    given = {"steps": 4, "clip_grad": 1.0, "clipped": 0.5, "median": 2.0, "highest": 100.0}
    return Gradients.model_validate(given | {"tokens": [10, 20, 30, 40], "norm": [0.1, 1.0, 10.0, 100.0]} | changed)


def heights(drawing: str) -> list[float]:
    """y of the four points of the first colored line."""
    (path,) = re.findall(rf'<path d="([^"]*)"[^>]*stroke: {COLORS[0]}; stroke-width: 1\.2', drawing)[:1]
    return [float(y) for _, y in re.findall(r"[ML] (\S+) (\S+)", path)]


def test_tenfold_norms_are_equally_far_apart() -> None:
    a, b, c, d = heights(draw({"small": gradients()}))
    assert abs((a - b) - (c - d)) < 0.01 and a > b


def test_a_norm_of_zero_keeps_the_scale_linear() -> None:
    a, b, c, d = heights(draw({"small": gradients(norm=[0.0, 1.0, 2.0, 4.0])}))
    assert abs((a - b) - (b - c)) < 0.01 and abs((c - d) - 2 * (b - c)) < 0.01


def test_each_norm_of_clipping_has_one_dotted_line() -> None:
    drawing = draw({"a": gradients(), "b": gradients(), "c": gradients(clip_grad=3.0)})
    assert (len(re.findall(DOTTED, drawing)), drawing.count("clipped above</text>")) == (2, 2)


def test_every_training_is_in_the_legend() -> None:
    drawing = draw({f"run-{number}": gradients() for number in range(7)})
    assert [drawing.count(f">run-{number}</text>") for number in range(7)] == [1] * 7


def test_a_skipped_step_is_marked_at_its_tokens() -> None:
    spikes = Skipped.model_construct(skipped=(SkippedStep(step=2, reason="it is high"),))
    drawing = draw({"small": gradients().model_copy(update={"spikes": spikes})})
    path = re.findall(rf'<path d="([^"]*)"[^>]*stroke: {COLORS[0]}; stroke-width: 1\.2', drawing)[0]
    places = [float(x) for x, _ in re.findall(r"[ML] (\S+) (\S+)", path)]
    marks = re.findall(rf'<use [^>]*x="([\d.]+)"[^>]*stroke: {COLORS[0]}', drawing)
    assert [round(float(mark), 2) for mark in marks] == [round(places[1], 2)]  # step 2 of 4: 20 of 40 tokens
