"""The section on attempts."""

from __future__ import annotations

from typing import Any, get_args

from conf.report.report import Provenance
from conf.spec import Attempt
from tasks.report.sections.attempts import REASONS, section


def entry(label: str, *ends: str) -> Provenance:
    attempts = [
        {"reason": end, "seconds": 9.04, "steps": 4 * number, "sentence": f"why {end}"}
        for number, end in enumerate(ends)
    ]
    made: dict[str, Any] = {"stage": label, "key": "k", "seconds": 1.0, "created": "now", "versions": {}, "repeat": "r"}
    return Provenance.model_validate({"label": label, "attempts": attempts} | made)


def test_every_attempt_of_a_retried_stage_has_a_row() -> None:
    text = section((entry("data", "done"), entry("logits", "time", "done"), entry("teacher")))
    assert text and text.rows == (
        ("logits", "1", "time limit", "9.0", "0", "why time"),
        ("logits", "2", "done", "9.0", "4", "why done"),
    )
    assert text.sentences == ("logits took 2 attempts; each continued from the last checkpoint.",)


def test_divergence_starts_over() -> None:
    text = section((entry("teacher", "diverged", "done"), entry("distill", "killed", "diverged", "done")))
    assert text and text.sentences == (
        "teacher took 2 attempts; each started over with a smaller learning rate.",
        "distill took 3 attempts; each continued from the last checkpoint, after divergence from the start with a"
        " smaller learning rate.",
    )


def test_without_retries_there_is_no_section() -> None:
    assert section((entry("data", "done"), entry("teacher"))) is None


def test_every_reason_has_a_text() -> None:
    annotation = Attempt.model_fields["reason"].annotation
    ends = {end for kind in get_args(annotation) for end in get_args(kind) or (kind,)}
    assert set(REASONS) == ends
