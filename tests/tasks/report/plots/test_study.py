"""The figures of a study: its history, the front of two objectives, and parallel coordinates."""

from __future__ import annotations

from typing import Any

import pytest

from conf.report.study import StudyResult
from conf.study import Range
from tasks.report.figure import COLORS, figure
from tasks.report.plots import study
from tests.fixtures.figures import keep_canvases, level, line, lines, notes, ticks

LR = {"low": 0.001, "high": 0.1, "log": True}


def trial(number: int, values: tuple[float, ...] | None, lr: float = 0.01, **fields: Any) -> dict[str, Any]:
    point = {"distill.lr": lr, "distill.steps": 20}
    return {"number": number, "round": 1, "point": point, "values": values, "tokens": 1} | fields


def result(*trials: dict[str, Any], by: tuple[str, ...] = ("val_loss",), **fields: Any) -> StudyResult:
    space = {"distill.lr": LR, "distill.steps": [10, 20, 40]}
    settings = {"space": space, "objectives": [{"model": "small", "by": metric} for metric in by]}
    given = {"version": 1, "name": "s", "study": settings, "recipe_values": None, "trials": trials, "best": 1}
    return StudyResult.model_validate(
        given | {"effects": (), "fresh": None, "ended": "all tried", "sentences": ()} | fields
    )


@pytest.fixture(autouse=True)
def _canvases(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_canvases(monkeypatch, study)


def axes_of(found: StudyResult, name: str) -> Any:
    canvas: Any = study.draw(found)[name]
    (axes,) = canvas.axes
    return axes


def labelled(axes: Any) -> dict[str, Any]:
    """The lines of the legend."""
    return {each.get_label(): line(each) for each in axes.lines if not each.get_label().startswith("_")}


STOPPED = {"step": 2, "steps": 8, "value": 3.5, "tokens_saved": 1}
TRIALS = [
    trial(1, (3.0,)),
    trial(2, (2.0,)),
    trial(3, None, failed="no memory"),
    trial(4, (2.5,)),
    trial(5, None, stopped=STOPPED),
]


@pytest.mark.parametrize(("by", "best"), [("val_loss", [3, 2, 2]), ("mmlu", [3, 3, 3])])
def test_the_history_shows_results_and_the_best_so_far(by: str, best: list[float]) -> None:
    axes = axes_of(result(*TRIALS, by=(by,), recipe_values=(2.25,)), "history")
    assert lines(axes)[0] == ([1, 2, 4], [3, 2, 2.5])
    named = labelled(axes)
    assert named.pop("best so far") == ([1, 2, 4], best)
    assert level(named.pop("the recipe")) == 2.25
    assert named == {"stopped early, with its value then": ([5], [3.5]), "failed": ([3], [3])}
    assert axes.get_ylabel() == f"{by} of small"


def test_a_history_names_only_what_there_is() -> None:
    assert list(labelled(axes_of(result(trial(1, (3.0,))), "history"))) == ["best so far"]


def test_two_objectives_have_a_front() -> None:
    trials = [
        trial(1, (3.0, 10.0), on_front=True),
        trial(2, (2.0, 20.0), on_front=True),
        trial(3, (3.5, 30.0)),
        trial(4, None, failed="no memory"),
    ]
    axes = axes_of(result(*trials, by=("val_loss", "bytes"), recipe_values=(2.5, 15.0)), "front")
    assert lines(axes)[:3] == [([3], [10]), ([2], [20]), ([3.5], [30])]
    assert [(each.get_color(), each.get_markerfacecolor()) for each in axes.lines[:3]] == [
        (COLORS[1], COLORS[1]),
        (COLORS[1], COLORS[1]),
        (COLORS[0], "none"),
    ]
    assert lines(axes)[3] == ([2, 3], [20, 10]), "the front goes from left to right"
    assert labelled(axes) == {"the recipe": ([2.5], [15])}
    assert notes(axes) == [("t1", (3, 10)), ("t2", (2, 20))]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("val_loss of small", "bytes of small")


def test_a_front_without_the_recipe_has_no_legend() -> None:
    axes = axes_of(result(trial(1, (3.0, 1.0), on_front=True), by=("val_loss", "bytes")), "front")
    assert axes.get_legend() is None


def test_which_figures_a_study_has() -> None:
    done, failed = trial(1, (3.0, 1.0)), trial(1, None, failed="no memory")
    assert study.draw(result(failed)) == {}
    assert list(study.draw(result(done))) == ["history", "parallel"]
    assert list(study.draw(result(done, by=("val_loss", "bytes")))) == ["front", "parallel"]
    lone = {"space": {"distill.lr": LR}, "objectives": [{"model": "small"}]}
    assert list(study.draw(result(done, study=lone))) == ["history"]


def test_each_trial_is_a_line_over_its_keys_and_result() -> None:
    trials = [trial(1, (2.0,), lr=0.001), trial(2, (4.0,), lr=0.1), trial(3, (2.5,)), trial(4, None, failed="no")]
    axes = axes_of(result(*trials), "parallel")
    drawn = [(x, pytest.approx(y)) for x, y in lines(axes)[:3]]
    # Steps: 20 is the second of three values. The best, with the lowest loss, is drawn last.
    assert drawn == [([0, 1, 2], [1, 0.5, 1]), ([0, 1, 2], [0.5, 0.5, 0.25]), ([0, 1, 2], [0, 0.5, 0])]
    assert [line(each)[0] for each in axes.lines[3:]] == [[0, 0], [1, 1], [2, 2]]
    assert ticks(axes.xaxis) == [(0, "distill.\nlr"), (1, "distill.\nsteps"), (2, "val_loss")]
    low, high = axes.get_ylim()
    assert low < 0 and high > 1, "ends of the axes lie inside the panel"


def test_better_trials_are_darker_and_the_best_has_its_color() -> None:
    axes = axes_of(result(*(trial(number, (float(number),)) for number in (1, 2, 3))), "parallel")
    shades = [each.get_alpha() for each in axes.lines[:3]]
    assert shades == pytest.approx([study.PALEST, study.PALEST + (1 - study.PALEST) / 4, 1])
    assert [each.get_color() for each in axes.lines[:3]] == [COLORS[0], COLORS[0], COLORS[1]]
    assert [each.get_ydata()[-1] for each in axes.lines[:3]] == [1, 0.5, 0]


def test_equal_results_lie_in_the_middle() -> None:
    axes = axes_of(result(trial(1, (2.0,)), trial(2, (2.0,))), "parallel")
    assert [each.get_ydata()[-1] for each in axes.lines[:2]] == [0.5, 0.5]


def test_a_lone_trial_is_the_best() -> None:
    axes = axes_of(result(trial(1, (2.0,))), "parallel")
    assert axes.lines[0].get_color() == COLORS[1]


@pytest.mark.parametrize(
    ("by", "value", "written"),
    [("val_loss", (2.0, 2.5), ["2", "2.5"]), ("num_params", (1e6, 2.5e6), ["1,000,000", "2,500,000"])],
)
def test_ends_of_the_axes_are_written(by: str, value: tuple[float, float], written: list[str]) -> None:
    axes = axes_of(result(*(trial(number, (each,)) for number, each in enumerate(value)), by=(by,)), "parallel")
    keys = [("0.001", (0, 0)), ("0.1", (0, 1)), ("10", (1, 0)), ("20", (1, 0.5)), ("40", (1, 1))]
    assert notes(axes) == [*keys, (written[0], (2, 0)), (written[1], (2, 1))]


def test_a_long_value_is_cut() -> None:
    _, (axes,) = figure()
    study._ticks(axes, 0, ("a" * 16, "b" * 17))
    assert [text for text, _ in notes(axes)] == ["a" * 16, "b" * 16]


@pytest.mark.parametrize(
    ("values", "value", "height"),
    [
        (Range(low=0.001, high=0.1, log=True), 0.01, 0.5),
        (Range(low=10, high=20), 12.5, 0.25),
        (("a", "b", "c"), "b", 0.5),
        (("a",), "a", 0.0),
    ],
)
def test_heights_are_shares_of_an_axis(values: Any, value: Any, height: float) -> None:
    assert study._height(values, value) == pytest.approx(height)
