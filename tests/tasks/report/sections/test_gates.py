"""The section on gates."""

from __future__ import annotations

from typing import Any

import pytest

from conf.report.gates import Verdict
from tasks.report.sections.gates import section


def verdict(**fields: Any) -> Verdict:
    values: dict[str, Any] = {"gate": "near", "student": "small", "model": "small", "after": "distill"}
    values |= {"bound": "mmlu at least 0.5", "confidence": 0.95, "measured": 0.6, "low": 0.55, "high": 0.65, "n": 200}
    values |= {"unit": "questions", "p": None, "verdict": "passed", "needs": None, "sentence": "gate near: it is so"}
    return Verdict.model_validate(values | fields)


def test_a_row_has_interval_p_and_need() -> None:
    text = section((verdict(p=0.0123, verdict="not shown", needs=2600),), {})
    assert text and text.rows == (
        (
            "near",
            "small",
            "mmlu at least 0.5",
            "0.95",
            "0.6 (95%: 0.55 to 0.65), p = 0.012",
            "200 questions",
            "not shown; needs about 2,600",
        ),
    )


def test_without_confidence_the_estimate_stands_alone() -> None:
    text = section((verdict(confidence=None),), {})
    assert text and text.rows[0][3:5] == ("none", "0.6")


@pytest.mark.parametrize("result", ["failed", "not shown"])
def test_closed_gates_and_stopped_models_are_named(result: str) -> None:
    text = section((verdict(), verdict(verdict=result)), {"small-fp8": "near"})
    assert text and text.sentences == (
        "Gate near: it is so.",
        "small-fp8 was not built: gate near stopped its student.",
    )


def test_all_gates_passed() -> None:
    text = section((verdict(),), {})
    assert text and text.sentences == ("Every gate passed.",)
    assert section((), {}) is None
