"""Runs of a study's trials, with a sender that only notes what it is told."""

from __future__ import annotations

from collections.abc import Sequence
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
        self.metrics = dict[str, tuple[float, int, int]]()
        self.params = dict[str, str]()
        self.begun = list[tuple[Any, ...]]()
        self.client = SimpleNamespace(
            update_run=lambda run, status: self.begun.append((run, status)),
            set_terminated=lambda run, status, end_time: self.terminated.update({run: (status, end_time)}),
            set_tag=lambda run, key, value: self.tags.update({key: value}),
        )

    def run(self, label: str, name: str, tags: dict[str, str], at: int) -> str:
        self.begun.append((label, name, tags, at))
        return "r9"

    def log(self, run: str, what: str, metrics: Sequence[Any] = (), params: Sequence[Any] = ()) -> None:
        self.metrics.update({metric.key: (metric.value, metric.timestamp, metric.step) for metric in metrics})
        self.params.update({param.key: param.value for param in params})


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
    assert notes.metrics == {"val_loss of a ---": (1.5, 7, 0)}
    assert notes.tags == ({"imbik.error": "x" * 5000} if failed else {})


def test_a_trial_begins_in_the_study_with_its_point() -> None:
    notes: Any = Notes()
    trials.begin(notes, {"name": "t3", "point": {"distill": {"lr": 0.1}, "long": "x" * 501}, "at": 5})
    tags = {"mlflow.parentRunId": "study", "imbik.kind": "trial", "imbik.trial": "t3"}
    assert notes.begun == [("trial t3", "t3", tags, 5), ("r9", "RUNNING")]
    assert notes.params == {"distill.lr": "0.1", "long": "x" * 500}


def test_only_trials_that_did_not_end_are_killed() -> None:
    notes: Any = Notes()
    trials.end(notes, ended("t1", None))
    trials.close(notes, {"at": 9})
    assert notes.terminated == {"r1": ("FINISHED", 7), "r2": ("KILLED", 9)}, "a stage is no trial"
