"""The figures of pruning: the ranks of a search by round, and the loss by the share of parameters kept."""

from __future__ import annotations

from typing import Any

import pytest

from conf.report.pruning import Search, Sweep
from tasks.report.plots import pruning
from tests.fixtures.figures import keep_canvases, lines, notes, ticks
from tests.fixtures.report import report, row

SHAPE = {"num_layers": 2, "hidden_size": 64, "ffn_hidden_size": 128, "num_attention_heads": 4}
SCORED: dict[str, Any] = {"shape": SHAPE, "params": 100, "memory_mb": 1.0, "val_loss": 2.0, "kl": 0.5}
RANKS = {4: (1, 2), 7: (2, 1, 2), 9: (3, 3, 1), 12: ()}
"""By the candidate's number: after the cut and after each round that it reached."""


def search(rounds: int = 2) -> Search:
    candidates = [SCORED | {"number": number, "ranks": ranks} for number, ranks in RANKS.items()]
    made = [{"steps": 10 * n, "tokens": 1000 * n, "candidates": 4 - n} for n in range(1, rounds + 1)]
    return Search.model_validate({"winner": 9, "candidates": candidates, "rounds": made, "teacher": SCORED})


def sweep() -> Sweep:
    points = [("num_layers", 750, 1.5), ("num_layers", 500, 2.5), ("hidden_size", 250, 4.0)]
    made = [
        {"axis": axis, "ratio": 0.5, "size": 1, "of": 2, "params": params, "val_loss": loss, "kl": 0.0}
        for axis, params, loss in points
    ]
    return Sweep.model_validate({"teacher": {"params": 1000, "val_loss": 1.25}, "points": made})


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep_canvases(monkeypatch, pruning)
    found = {"small": search(), "quick": search(rounds=0)}
    return dict(pruning.draw(report(row("teacher", "teacher"), searches=found, sweep=sweep())))


def test_what_there_is_is_drawn(figures: dict[str, Any]) -> None:
    assert list(figures) == ["ranks-small", "sweep"]  # the quick search had no rounds
    assert pruning.draw(report(row("teacher", "teacher"))) == {}


def test_ranks_are_drawn_by_round(figures: dict[str, Any]) -> None:
    (axes,) = figures["ranks-small"].axes
    assert lines(axes) == [([0, 1], [1, 2]), ([0, 1, 2], [2, 1, 2]), ([0, 1, 2], [3, 3, 1])]
    assert ticks(axes.xaxis) == [(0, "after cut"), (1, "round 1\n1,000 tokens"), (2, "round 2\n2,000 tokens")]
    assert [place for place, _ in ticks(axes.yaxis)] == [1, 2, 3]
    assert axes.yaxis_inverted(), "the best rank is on top"


def test_candidates_are_named_where_their_ranks_end(figures: dict[str, Any]) -> None:
    (axes,) = figures["ranks-small"].axes
    assert notes(axes) == [("c4", (1, 2)), ("c7", (2, 2)), ("c9 wins", (2, 1))]


def test_the_winner_is_drawn_thickest(figures: dict[str, Any]) -> None:
    (axes,) = figures["ranks-small"].axes
    thin, also_thin, thick = (line.get_linewidth() for line in axes.lines)
    assert thin == also_thin < thick


def test_colors_of_candidates_begin_again(figures: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "COLORS", ("red", "blue"))
    (axes,) = pruning.draw(report(row("teacher", "teacher"), searches={"small": search()}))["ranks-small"].axes
    assert [line.get_color() for line in axes.lines] == ["red", "blue", "red"]


def test_a_sweep_is_drawn_from_the_whole_teacher(figures: dict[str, Any]) -> None:
    (axes,) = figures["sweep"].axes
    assert lines(axes) == [([100, 75, 50], [1.25, 1.5, 2.5]), ([100, 25], [1.25, 4.0])]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["layers", "hidden channels"]
    assert axes.xaxis_inverted(), "the smallest model is on the right"
