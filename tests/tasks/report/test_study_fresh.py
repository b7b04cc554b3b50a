"""The best trial against the recipe with fresh seeds: for losses and for scores."""

from __future__ import annotations

from typing import Any

import pytest

from conf.study import Objective
from tasks.report import study_fresh
from tasks.report.study_fresh import compared

LOSS, SCORE = Objective(model="depth"), Objective(model="depth", by="mmlu")


@pytest.mark.parametrize(
    ("objective", "value", "luck"), [(LOSS, 1.9, 2.1 - 1.9), (LOSS, 2.2, 2.1 - 2.2), (SCORE, 0.7, 0.7 - 2.1)]
)
@pytest.mark.parametrize(("shift", "lower", "higher"), [(-0.5, "better", "worse"), (0.5, "worse", "better")])
def test_luck_and_verdict_follow_what_is_better(
    objective: Objective,
    value: float,
    luck: float,
    shift: float,
    lower: str,
    higher: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`luck`: by how much the trial was better in the study than with fresh seeds, 2.1 on average."""

    def items(_: Objective, model: Any) -> dict[str, float]:
        side, seed = model
        more = shift + 0.01 * seed if side == "trial" else 0.0
        return {"a": 2.0 + more, "b": 3.0 + more - 0.02, f"only {side}": 9.0}

    monkeypatch.setattr(study_fresh, "_items", items)
    pairs: Any = [(("trial", seed), ("recipe", seed)) for seed in (1, 2)]
    found = compared(objective, value, (2.0, 2.2), (2.5, 2.6), pairs)
    assert found.luck == pytest.approx(luck) and (found.seeds, found.items) == (2, 2)
    assert found.difference == pytest.approx(shift + 0.015)
    assert found.verdict == (lower if objective is LOSS else higher)
