"""Trials of a study: which failures are a trial's own, and what makes two inputs the same."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from conf.spec import Reason
from conf.stages.distill import DistillConfig
from flows import trials
from flows.trials import Begun, TrialRun, TrialStages
from tasks.gates import GateClosed
from tasks.launch.errors import JobFailed
from tasks.store.store import Artifact
from tests.fixtures.stages import STEPS
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


def shared(made: list[str]) -> Any:
    """Stages of trials whose futures are their labels."""
    run: Any = lambda label, *_, **__: made.append(label) or f"made {label}"  # noqa: E731
    return SimpleNamespace(
        lock=contextlib.nullcontext(), made={}, run=run, session=SimpleNamespace(tracker=SimpleNamespace(nest=nested))
    )


def nested(label: str, above: str) -> None:
    assert label.endswith(f"-{above}"), "a trial's own stages are its children"


def test_a_stage_with_the_same_inputs_is_made_once() -> None:
    """First steps are a shortcut to the same weights, no input that would make others of them."""
    made: list[str] = []
    of_all = shared(made)
    stages, other = (TrialStages(of_all, mark, mark) for mark in ("t1", "t2"))
    config = DistillConfig.model_validate(STEPS)
    data, student = (Artifact(stage="data", key=key, path="") for key in ("d", "s"))
    one = stages("distill-a", config, data=data, student=student, logits=None)
    assert other("distill-a", config, data=data, student=student, trunk=data) == one == "made distill-a-t1"
    assert other("distill-a", config, data=student, student=student) == "made distill-a-t2"
    assert other("distill-a", config.model_copy(update={"seed": 9}), data=data, student=student) != one
    assert stages.handles == [one] and len(other.handles) == 3 and other.known([])


def test_a_trial_goes_on_from_what_is_begun() -> None:
    given: list[Any] = []
    trunk = Artifact(stage="trunk", key="t", path="")
    one = shared([])
    one.run = lambda label, config, **inputs: given.append((label, config.begun, inputs["trunk"])) or label
    begun = Begun(student="a", step=4, trunk=trunk)
    stages = TrialStages(one, "", "", begun)
    config = DistillConfig.model_validate(STEPS)
    assert stages("distill-a", config, trunk=None) == "distill-a" and stages(
        "distill-b", config, trunk=None, model=trunk
    )
    assert given == [("distill-a", 4, trunk), ("distill-b", 0, None)]
