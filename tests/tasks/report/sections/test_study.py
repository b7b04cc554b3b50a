"""A trial as a row of a study's table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conf.report.study import StudyTrial
from conf.study import Objective
from tasks.report.sections.study import row

LOSS, SIZE = Objective(model="depth"), Objective(model="depth", by="num_params")
STOPPED = {"step": 1000, "steps": 4000, "value": 2.5, "tokens_saved": 1}


@pytest.mark.parametrize(
    ("fields", "best", "first", "results"),
    [
        ({"values": (2.0, 1500.0)}, 3, "t3 (best)", 2),
        ({"values": (2.0, 1500.0), "on_front": True}, None, "t3 (front)", 2),
        ({"values": (2.0, 1500.0), "on_front": True}, 1, "t3", 2),
        ({"failed": "why"}, 1, "t3", ["failed", ""]),
        ({"stopped": STOPPED}, 1, "t3", ["stopped after step 1,000 of 4,000 at", ""]),
    ],
)
def test_a_trial_has_a_cell_for_each_column(fields: dict[str, Any], best: int | None, first: str, results: Any) -> None:
    trial = StudyTrial.model_validate({"number": 3, "round": 2, "point": {"lr": 1e-3}, "tokens": 12_000} | fields)
    found: Any = SimpleNamespace(best=best, study=SimpleNamespace(space={"lr": ()}))
    cells = row((LOSS, SIZE), found, trial)
    assert len(cells) == 6 and (cells[0], cells[1], cells[-1]) == (first, "2", "12,000")
    if isinstance(results, list):
        assert cells[3].startswith(results[0]) and cells[4] == results[1]
