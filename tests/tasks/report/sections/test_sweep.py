"""The section on the cost of each axis."""

from __future__ import annotations

import pytest

from conf.report.pruning import Sweep
from tasks.report.sections.sweep import cost_per_percent, section

POINTS = [
    {"axis": "num_layers", "ratio": 0.75, "size": 3, "of": 4, "params": 1800, "val_loss": 1.5, "kl": 0.12345},
    {"axis": "num_layers", "ratio": 0.5, "size": 2, "of": 4, "params": 1600, "val_loss": 2.0, "kl": 0.2},
    {"axis": "ffn_hidden_size", "ratio": 0.5, "size": 64, "of": 128, "params": 1000, "val_loss": 1.5, "kl": 0.3},
]
SWEEP = Sweep.model_validate({"teacher": {"params": 2000, "val_loss": 1.0}, "points": POINTS})


def test_the_cost_is_nats_per_percent_at_the_deepest_cut() -> None:
    assert cost_per_percent(SWEEP) == pytest.approx({"num_layers": 1.0 / 20, "ffn_hidden_size": 0.5 / 50})


def test_the_cheapest_and_dearest_axis_are_named() -> None:
    text = section(SWEEP)
    assert text and text.sentences == (
        "At the deepest cut measured, FFN channels cost least, +0.0100 nats per percent of the parameters saved, and"
        " layers cost most, +0.0500.",
    )


def test_every_cut_has_a_row() -> None:
    text = section(SWEEP)
    assert text and text.rows[0] == ("layers", "3 of 4", "1,800 (90%)", "1.5000", "+0.5000", "0.1235")
    assert len(text.rows) == 3


def test_one_axis_is_not_compared() -> None:
    text = section(Sweep.model_validate({"teacher": {"params": 2000, "val_loss": 1.0}, "points": POINTS[:2]}))
    assert text and text.sentences == ()
    assert section(None) is None
