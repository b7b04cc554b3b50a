"""What a contamination check asks the stages that read text to take out."""

from __future__ import annotations

import pytest

from conf.stages.contamination import ContaminationConfig


def test_a_report_takes_nothing_out() -> None:
    assert ContaminationConfig().taken_out is None and ContaminationConfig().min_coverage == 0.5


@pytest.mark.parametrize("action", ["drop", "cut"])
def test_what_is_found_is_taken_out_with_the_same_settings(action: str) -> None:
    given = {"action": action, "min_coverage": 0.6, "reviewed": ["home/3"], "mmlu": {"path": "quiz"}}
    taken = ContaminationConfig.model_validate(given).taken_out
    assert taken and taken.mmlu and taken.mmlu.path == "quiz" and taken.benchmarks == {}
    assert (taken.action, taken.min_coverage, taken.reviewed) == (action, 0.6, ("home/3",))
