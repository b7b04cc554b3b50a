"""Trials of a study: which failures are a trial's own, and what makes two inputs the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conf.spec import Reason
from flows import trials
from flows.trials import TrialRun
from tasks.gates import GateClosed
from tasks.launch.errors import JobFailed
from tasks.store.store import Artifact
from tests.flows.test_outcome import Future, verdict


def run(*handles: Future, races: tuple[Future, ...] = ()) -> TrialRun:
    """A trial whose stages have ended so."""
    stages: Any = SimpleNamespace(handles=list(handles), races=list(races))
    return TrialRun(stages, "t1")


def test_a_trial_without_an_error_has_not_failed() -> None:
    handles, race = (Future(7), Future(None, final=False)), Future(8)
    assert run(*handles, races=(race,)).failure() is None
    assert all(handle.waited for handle in (*handles, race)), "a search submits stages until it ends"


@pytest.mark.parametrize("reason", ["mistake", "memory"])
def test_what_its_values_are_to_blame_for_is_told(reason: Reason) -> None:
    failed = JobFailed("too\n  large", reason)
    assert run(Future(7), Future(failed), Future(RuntimeError("later"))).failure() == "too large"


def test_a_closed_gate_ends_a_trial() -> None:
    assert run(Future(GateClosed(verdict()))).failure() == str(GateClosed(verdict()))


@pytest.mark.parametrize("reason", ["fault", "time", "hang", "terminated", "diverged"])
def test_any_other_failure_stops_the_study(reason: Reason) -> None:
    failed = JobFailed("the disk is full", reason)
    with pytest.raises(JobFailed, match="the disk is full"):
        run(Future(7), Future(failed)).failure()
    with pytest.raises(RuntimeError):
        run(Future(RuntimeError())).failure()


def test_an_artifact_is_its_key_and_a_future_is_itself() -> None:
    one, other = (Artifact(stage="data", key="k", path=path) for path in ("/a", "/b"))
    assert trials._same(one) == trials._same(other) == "k"
    first, second = Future(1), Future(1)
    assert trials._same(first) == trials._same(first) != trials._same(second)
