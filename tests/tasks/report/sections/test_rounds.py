"""The section on iterative pruning."""

from __future__ import annotations

from typing import Any

from conf.report.pruning import Cut
from tasks.report.sections.rounds import sections
from tests.fixtures.report import report, row

PART = {"of": 96, "count": 64, "ranges": "0-63", "share": 0.75, "gini": 0.2}
CUT = Cut.model_validate({"ranking": "activation", "axes": {"ffn_hidden_size": {"1": PART}}, "path": "p"})
TEACHER = row("teacher", "teacher", num_params=2000, val_loss=1.0)
FIRST: dict[str, Any] = {"student": "s", "num_params": 1500}


def test_every_round_shows_cut_and_distillation() -> None:
    rows = (
        TEACHER,
        row("s-r1-pruned", "prune", val_loss=2.0, **FIRST),
        row("s-r1", val_loss=1.2, kl_teacher=0.12345, **FIRST),
        row("s-pruned", "prune", val_loss=1.8),
        row("s", val_loss=1.25),
    )
    (text,) = sections(report(*rows, rounds={"s": 2}, cuts={"s-r1-pruned": CUT}))
    assert text.rows == (
        ("1", "64 of 96 FFN channels", "1,500 (75%)", "2.0000", "1.2000", "0.1235"),
        ("2", "-", "1,000 (50%)", "1.8000", "1.2500", "-"),
    )
    assert text.sentences == ("After its last round s is +0.250 nats from the teacher.",)


def test_a_stopped_student_ends_with_its_last_cut() -> None:
    rows = (TEACHER, row("s-r1-pruned", "prune", val_loss=2.0, **FIRST))
    (text,) = sections(report(*rows, rounds={"s": 2}))
    assert text.rows == (("1", "-", "1,500 (75%)", "2.0000", "-", "-"),)
    assert text.sentences == ("After its last round s is +1.000 nats from the teacher.",)


def test_no_round_was_built() -> None:
    (text,) = sections(report(TEACHER, rounds={"s": 2}))
    assert text.sentences == ("No round was built.",)
    assert sections(report(TEACHER)) == []
