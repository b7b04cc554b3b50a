"""Runs of a study's trials, with a sender that only notes what it is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.tracking import trials
from tasks.tracking.spool import SentState


class Notes:
    """A sender and its client."""

    def __init__(self) -> None:
        self.sent = SentState(parent="study", runs={"trial t1": "r1", "trial t2": "r2", "teacher": "r3"})
        self.terminated = dict[str, tuple[str, int]]()
        self.tags = dict[str, str]()
        self.metrics = dict[str, float]()
        self.client = SimpleNamespace(
            set_terminated=lambda run, status, end_time: self.terminated.update({run: (status, end_time)}),
            set_tag=lambda run, key, value: self.tags.update({key: value}),
        )

    def log(self, run: str, what: str, metrics: list[Any]) -> None:
        self.metrics.update({metric.key: metric.value for metric in metrics})


def ended(name: str, failed: str | None, **values: float) -> dict[str, Any]:
    return {"name": name, "values": values, "failed": failed, "at": 7}


@pytest.mark.parametrize(("within", "run"), [({"within": "t1"}, "r1"), ({}, "study"), ({"within": "t9"}, "study")])
def test_a_stage_lies_in_its_trial_or_in_the_study(within: dict[str, str], run: str) -> None:
    assert trials.above(Notes().sent, within) == run


@pytest.mark.parametrize(("failed", "status"), [(None, "FINISHED"), ("x" * 5001, "FAILED")])
def test_a_trial_ends_with_its_values_or_its_error(failed: str | None, status: str) -> None:
    notes: Any = Notes()
    trials.end(notes, ended("t1", failed, **{"val_loss of a (%)": 1.5}))
    assert notes.terminated == {"r1": (status, 7)}
    assert notes.metrics == {"val_loss of a ---": 1.5}
    assert notes.tags == ({"imbik.error": "x" * 5000} if failed else {})


def test_only_trials_that_did_not_end_are_killed() -> None:
    notes: Any = Notes()
    trials.end(notes, ended("t1", None))
    trials.close(notes, {"at": 9})
    assert notes.terminated == {"r1": ("FINISHED", 7), "r2": ("KILLED", 9)}, "a stage is no trial"
