"""The section on the ladder of formats."""

from __future__ import annotations

from typing import Any

import pytest

from conf.ladder import LadderConfig
from conf.report.ladder import LadderChoice, Rung
from tasks.report.sections.ladder import section

RUNGS = (
    Rung(model="s-fp8", bytes=1_234_000, lost=0.01, worst=0.02, inside=True, path="p"),
    Rung(model="s-int8", bytes=900_000, lost=0.02, worst=0.03, inside=True, path="p"),
    Rung(model="s-nvfp4", bytes=600_000, lost=0.1234, worst=None, inside=False, path="p"),
)
CHOICE = {"s": LadderChoice(rungs=RUNGS, kept="s-int8")}


def config(**fields: Any) -> LadderConfig:
    return LadderConfig.model_validate({"formats": ("fp8", "int8", "nvfp4"), "bound": 0.05} | fields)


def test_points_for_a_score_and_nats_for_a_loss() -> None:
    by_score, by_loss = section(config(), CHOICE), section(config(metric="val_loss"), CHOICE)
    assert by_score and by_score.rows == (
        ("s-fp8", "1.23 MB", "1.0 points", "2.0 points", "within bound"),
        ("s-int8", "0.90 MB", "2.0 points", "3.0 points", "kept"),
        ("s-nvfp4", "0.60 MB", "12.3 points", "not measured", "beyond bound"),
    )
    assert by_loss and by_loss.rows[2][2] == "0.1234 nats"


def test_the_sentence_names_format_bound_and_link() -> None:
    text = section(config(), CHOICE)
    assert text and text.sentences == (
        "s keeps s-int8, the smallest format that loses at most 5.0 points; the run's folder links to it as kept-s.",
    )


def test_a_student_may_keep_no_format() -> None:
    text = section(config(), {"s": LadderChoice(rungs=RUNGS[2:], kept=None)})
    assert text and text.sentences == ("s keeps no format of the ladder: each may lose more than 5.0 points.",)


@pytest.mark.parametrize(
    ("fields", "compared"),
    [
        ({}, "the worse end of its paired 95% interval"),
        ({"confident": False}, "the estimate"),
        ({"metric": "val_loss"}, "the estimate"),
    ],
)
def test_the_note_says_what_is_compared(fields: dict[str, Any], compared: str) -> None:
    text = section(config(**fields), CHOICE)
    assert text and text.notes == (f"Loss relative to the unquantized student; {compared} is compared with the bound.",)


def test_without_a_ladder_there_is_no_section() -> None:
    assert section(None, CHOICE) is section(config(), {}) is None
