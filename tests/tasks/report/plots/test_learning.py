"""The figure of training: losses, the law's curve, scores with their intervals, and chance."""

from __future__ import annotations

from typing import Any

import pytest

from conf.report.learning import Evaluations, FittedLaw, KeptWeights, LawCurve, Learning, NoLaw
from tasks.report.figure import COLORS
from tasks.report.plots import learning
from tests.fixtures.figures import keep_canvases, level, lines
from tests.fixtures.report import report, row

CURVE = LawCurve(tokens=(100, 400), loss=(0.6, 0.2), low=(0.5, 0.1), high=(0.7, 0.3))
POINT = (0.1, 0.0, 0.2)
LAW = FittedLaw.model_validate(
    {"points": 3, "curve": CURVE, "floor": 0.1, "scale": 0.1, "alpha": 1.0, "gain": POINT, "doubled": POINT}
)
SCORES = Evaluations(tokens=(0, 200), mmlu=(0.25, 0.5), mmlu_low=(0.125, 0.375), mmlu_high=(0.5, 0.625))


def kept(step: int, tokens: int) -> KeptWeights:
    return KeptWeights(
        keep="best", step=step, trained=10, steps=10, stopped=None, best_by="val_loss", best=1.0, tokens=tokens
    )


def trained(**changed: Any) -> Learning:
    given: dict[str, Any] = {"tokens": (0, 100, 200), "val_loss": (3.0, 2.0, 1.0), "val_kl": (1.0, 0.5, 0.25)}
    given |= {"fitted": "val_kl", "evaluated": Evaluations(), "kept": None, "backtest": None}
    return Learning.model_validate(given | {"law": NoLaw(undetermined="too few points")} | changed)


@pytest.fixture(autouse=True)
def _canvases(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_canvases(monkeypatch, learning)


def panels(chance: float | None = None, **students: Learning) -> list[Any]:
    canvas: Any = learning.draw(report(row("teacher", "teacher"), learning=students, chance=chance))
    return list(canvas.axes)


def test_losses_and_divergences_are_drawn_by_tokens() -> None:
    losses, divergences = panels(small=trained(), offline=trained(val_kl=()))
    assert lines(losses) == [([0, 100, 200], [3, 2, 1])] * 2
    assert lines(divergences) == [([0, 100, 200], [1, 0.5, 0.25])]
    assert (losses.get_xlabel(), divergences.get_xlabel()) == ("", "distillation tokens")
    assert divergences.get_yscale() == "log" and divergences.get_ylim()[0] == pytest.approx(0.25 / 4)


def test_a_divergence_of_zero_keeps_the_scale_linear() -> None:
    _, divergences = panels(small=trained(val_kl=(1.0, 0.5, 0.0)))
    assert divergences.get_yscale() == "linear"
    assert panels(small=trained(val_kl=()))[1].get_yscale() == "linear"


@pytest.mark.parametrize(("metric", "panel"), [("val_loss", 0), ("val_kl", 1)])
def test_the_law_is_drawn_with_its_interval(metric: str, panel: int) -> None:
    drawn = panels(small=trained(fitted=metric, law=LAW))
    assert lines(drawn[panel], linestyle="--") == [([100, 400], [0.6, 0.2])]
    (band,) = drawn[panel].collections
    corners = {(float(x), round(float(y), 6)) for x, y in band.get_paths()[0].vertices}
    assert corners == {(100, 0.5), (400, 0.1), (400, 0.3), (100, 0.7)}
    other = drawn[1 - panel]
    assert not lines(other, linestyle="--") and not len(other.collections)


def test_no_law_is_drawn_where_none_was_fitted() -> None:
    assert not any(lines(axes, linestyle="--") for axes in panels(small=trained()))


@pytest.mark.parametrize(("step", "drawn"), [(5, [([120, 120], [0, 1])]), (10, [])])
def test_weights_kept_before_the_end_have_a_line(step: int, drawn: list[Any]) -> None:
    losses, _ = panels(small=trained(kept=kept(step, 120)))
    assert lines(losses)[1:] == drawn


def test_scores_and_their_intervals_are_in_percent() -> None:
    drawn = panels(0.25, small=trained(evaluated=SCORES), unscored=trained())
    assert len(drawn) == 3
    ((bars, *_), _) = drawn[2].containers
    assert lines(drawn[2])[0] == ([0, 200], [25, 50]) and bars.get_ydata().tolist() == [25, 50]
    segments = [segment.tolist() for segment in drawn[2].collections[0].get_segments()]
    assert segments == [[[0, 12.5], [0, 50]], [[200, 37.5], [200, 62.5]]]
    assert level(lines(drawn[2], linestyle=":")[0]) == 25


def test_without_chance_there_is_no_line_of_it() -> None:
    assert lines(panels(small=trained(evaluated=SCORES))[2], linestyle=":") == []


@pytest.mark.parametrize(("students", "columns"), [(len(COLORS), 1), (len(COLORS) + 1, 2)])
def test_the_legend_of_many_students_has_two_columns(students: int, columns: int) -> None:
    legend = panels(**{f"s{number}": trained() for number in range(students)})[0].get_legend()
    assert legend._ncols == columns and len(legend.get_texts()) == students
