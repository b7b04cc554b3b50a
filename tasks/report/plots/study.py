"""The figures of a study: its history, the front of two objectives, and parallel coordinates."""

from __future__ import annotations

import math
from typing import Any

from conf.report.study import StudyResult, StudyTrial
from conf.study import Objective, Range
from conf.trials import shown
from tasks.report.figure import COLORS, FAINT, INK, figure, svg

PALEST = 0.15
"""Opacity of the worst trial's line."""


def draw(found: StudyResult) -> dict[str, str]:
    """SVG by figure name; none where every trial failed."""
    done = [trial for trial in found.trials if trial.values]
    if not done:
        return {}
    figures = {"front": _front(found, done)} if len(found.study.objectives) == 2 else {"history": _history(found, done)}
    return figures | ({"parallel": _parallel(found, done)} if len(found.study.space) > 1 else {})


def _history(found: StudyResult, done: list[StudyTrial]) -> str:
    """The result of each trial and the best so far."""
    canvas, (axes,) = figure()
    objective = found.study.objectives[0]
    numbers, values = [trial.number for trial in done], [_value(trial) for trial in done]
    pick = min if objective.lower else max
    best = [pick(values[: end + 1]) for end in range(len(values))]
    axes.plot(numbers, values, "o", color=COLORS[0], markersize=4)
    axes.step(numbers, best, where="post", color=COLORS[1], linewidth=2, label="best so far")
    if found.recipe_values:
        axes.axhline(found.recipe_values[0], color=INK, linewidth=1, linestyle="--", label="the recipe")
    stopped = [(trial.number, trial.stopped.value) for trial in found.trials if trial.stopped]
    if stopped:
        label = "stopped early, with its value then"
        axes.plot(*zip(*stopped, strict=True), "v", color=COLORS[3], markerfacecolor="none", label=label)
    failed = [trial.number for trial in found.trials if trial.failed]
    if failed:
        axes.plot(failed, [max(values)] * len(failed), "x", color=COLORS[5], label="failed")
    axes.set_xlabel("trial", color=INK, fontsize=9)
    axes.set_ylabel(objective.title, color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return svg(canvas)


def _front(found: StudyResult, done: list[StudyTrial]) -> str:
    """Both objectives of each trial."""
    canvas, (axes,) = figure()
    for trial in done:
        assert trial.values is not None
        face = COLORS[1] if trial.on_front else "none"
        axes.plot(*trial.values, "o", color=COLORS[1] if trial.on_front else COLORS[0], markerfacecolor=face)
        if trial.on_front:
            text = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 8, "color": INK}
            axes.annotate(f"t{trial.number}", trial.values, **text)
    front = sorted(trial.values for trial in done if trial.on_front and trial.values)
    axes.plot(*zip(*front, strict=True), color=COLORS[1], linewidth=1, alpha=0.6)
    if found.recipe_values:
        axes.plot(*found.recipe_values, "s", color=INK, label="the recipe")
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    for name, objective in zip(("x", "y"), found.study.objectives, strict=True):
        getattr(axes, f"set_{name}label")(objective.title, color=INK, fontsize=9)
    return svg(canvas)


def _parallel(found: StudyResult, done: list[StudyTrial]) -> str:
    """A line for each trial over its keys and its first objective."""
    canvas, (axes,) = figure()
    objective, keys = found.study.objectives[0], list(found.study.space)
    values = [_value(trial) for trial in done]
    low, high = min(values), max(values)
    ranked = sorted(done, key=_value, reverse=objective.lower)  # the best last, on top
    for rank, trial in enumerate(ranked):
        heights = [_height(found.study.space[key], trial.point[key]) for key in keys]
        heights.append((_value(trial) - low) / (high - low) if high > low else 0.5)
        best = rank == len(ranked) - 1
        share = rank / max(1, len(ranked) - 1)
        axes.plot(
            range(len(heights)),
            heights,
            color=COLORS[1] if best else COLORS[0],
            alpha=PALEST + (1 - PALEST) * share**2,
            linewidth=2.5 if best else 1.2,
        )
    for place, key in enumerate(keys):
        _ticks(axes, place, found.study.space[key])
    _named(axes, len(keys), low, high, objective)
    axes.set_xticks(range(len(keys) + 1), [*(key.replace(".", ".\n") for key in keys), objective.by], fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(-0.08, 1.08)
    axes.margins(x=0.12)
    return svg(canvas)


def _named(axes: Any, place: int, low: float, high: float, objective: Objective) -> None:
    axes.axvline(place, color=FAINT, linewidth=1)
    for at, value in ((0.0, low), (1.0, high)):
        _write(axes, place, at, shown(value) if objective.by != "num_params" else f"{value:,.0f}")


def _ticks(axes: Any, place: int, values: Range | tuple[Any, ...]) -> None:
    axes.axvline(place, color=FAINT, linewidth=1)
    ends = (values.low, values.high) if isinstance(values, Range) else values
    for value in ends:
        _write(axes, place, _height(values, value), shown(value)[:16])


def _write(axes: Any, place: int, height: float, text: str) -> None:
    axes.annotate(text, (place, height), xytext=(4, -3), textcoords="offset points", fontsize=8, color=INK)


def _height(values: Range | tuple[Any, ...], value: Any) -> float:
    """Where a value lies on its axis, 0 to 1."""
    if not isinstance(values, Range):
        return values.index(value) / max(1, len(values) - 1)
    low, high, at = (math.log(each) if values.log else each for each in (values.low, values.high, value))
    return float((at - low) / (high - low))


def _value(trial: StudyTrial) -> float:
    assert trial.values is not None
    return trial.values[0]
