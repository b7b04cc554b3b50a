"""What is written of the points of a sweep; the scores are made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conf.shape import num_params
from jobs import sweep
from tests.jobs.test_search import TEACHER, job  # noqa: F401 - a fixture

SWEEP = {"axes": ["num_layers", "ffn_hidden_size"], "ratios": [0.5, 0.75]}


def test_points_of_a_sweep_say_what_was_cut(job: Callable[..., Any]) -> None:
    _, written = job(sweep, SWEEP)
    assert written["teacher"] == {"params": num_params(TEACHER), "val_loss": 2.5}
    assert [(p["axis"], p["ratio"], p["size"], p["of"], p["val_loss"]) for p in written["points"]] == [
        ("num_layers", 0.75, 3, 4, 3.0),
        ("num_layers", 0.5, 2, 4, 4.0),
        ("ffn_hidden_size", 0.75, 72, 96, 5.0),
        ("ffn_hidden_size", 0.5, 48, 96, 6.0),
    ]
    halved = TEACHER.model_copy(update={"ffn_hidden_size": 48})
    assert written["points"][-1]["params"] == num_params(halved)


def test_one_rank_writes(job: Callable[..., Any]) -> None:
    assert job(sweep, SWEEP, rank=1)[1] is None
