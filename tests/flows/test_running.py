"""What waits for stages tells why one failed, in Prefect's own futures and states."""

from __future__ import annotations

import concurrent.futures
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.exceptions import UnfinishedRun
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed, Failed, Pending, State

from conf.gates import Gate
from conf.stages.distill import DistillConfig
from flows import running
from flows.reading import Model
from flows.running import Running
from flows.trials import TrialRun
from tasks.launch.errors import JobFailed
from tasks.store.store import Artifact

MADE = Artifact(stage="prune", key="k", path="/store/prune/k")
WHY = "prune-small-c1: it cannot be cut"


def future(state: State[Any]) -> PrefectConcurrentFuture[Any]:
    """That of a task that has ended like this."""
    ended: concurrent.futures.Future[Any] = concurrent.futures.Future()
    ended.set_result(state)
    return PrefectConcurrentFuture(uuid.uuid4(), ended)


def made() -> PrefectConcurrentFuture[Any]:
    return future(Completed(data=MADE))


def failed(error: Exception | None = None) -> PrefectConcurrentFuture[Any]:
    return future(Failed(data=error or JobFailed(WHY, "mistake")))


def never_run() -> PrefectConcurrentFuture[Any]:
    """A task that waited for one that failed."""
    return future(Pending(name="NotReady"))


def test_prefect_says_only_that_a_task_never_ran() -> None:
    waiting = never_run()
    waiting.wait()
    with pytest.raises(UnfinishedRun, match="Run is in PENDING state"):
        waiting.result()


def test_stages_that_never_ran_say_what_failed_before_them() -> None:
    run = Running()
    waiting = never_run()
    run.stages = {"data": made(), "prune-small-c1": failed(), "quantize": waiting, "later": never_run()}
    assert run.artifacts([run.stages["data"]]) == [MADE]
    for handles in ([waiting], [run.stages["data"], waiting], [run.stages["prune-small-c1"]]):
        with pytest.raises(JobFailed) as caught:
            run.artifacts(handles)
        assert (str(caught.value), caught.value.reason) == (WHY, "mistake")


def trial(handles: list[Any], races: list[Any]) -> TrialRun:
    stages: Any = SimpleNamespace(handles=handles, races=races)
    return TrialRun(stages, "t1")


def test_a_trial_fails_with_the_search_that_failed() -> None:
    """Its candidates are compared apart from any stage; what waits for the winner never runs."""
    assert trial([made()], [made()]).failure() is None
    assert trial([made(), failed(), never_run()], [failed(), never_run()]).failure() == WHY
    with pytest.raises(KeyError, match="candidates"):
        trial([made(), never_run()], [failed(KeyError("candidates")), never_run()]).failure()


def test_a_stage_is_submitted_with_the_inputs_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[Any] = []
    expected: list[str] = []
    task = SimpleNamespace(submit=lambda *given, **more: submitted.append((given, more)) or "future")
    monkeypatch.setattr(running, "stage_task", task)
    monkeypatch.setattr(running, "board", lambda: SimpleNamespace(expect=expected.append))
    run, config = Running(), DistillConfig.model_construct()
    assert run("distill-a", config, data="d", model="m", logits=None, after=("gate",)) == "future"
    assert submitted == [
        (("distill-a", config, {"data": "d", "model": "m"}), {"wait_for": ("gate",), "return_state": False})
    ]
    assert run.stages == {"distill-a": "future"} and expected == ["distill-a"]


@pytest.mark.parametrize("against", [None, "teacher"])
def test_a_gate_waits_for_the_scores_that_it_compares(against: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[Any] = []
    monkeypatch.setattr(
        running.gates.gate, "submit", lambda *given, **more: submitted.append((given, more)) or "verdict"
    )
    scored: list[str] = []
    one, other = (
        Model(name=name, stage="distill", artifact=None, student="a", scores=f"scores of {name}")
        for name in ("a", "teacher")
    )
    gate = Gate.model_validate({"after": "distill", "metric": "val_loss", "by": "ratio", "at_most": 2})
    run = Running()
    verdict = run.gate("g", gate, one, other if against else None, lambda model: scored.append(model.name))
    assert verdict == "verdict" and run.gates == ["verdict"]
    ((given, more),) = submitted
    assert given == ("gate-a-g", "g", gate) and scored == (["a", "teacher"] if against else ["a"])
    assert (more["scores"], more["other"]) == ("scores of a", "scores of teacher" if against else None)


def test_a_race_has_the_winners_cut_and_its_last_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.halving, "submit", lambda *given: given)
    monkeypatch.setattr(running.winner, "submit", lambda label, race, *, cut: (label, race, cut))
    run = Running()
    race = ("halving-a", "play", "found")
    assert run.race("a", "found", "play") == (("winner-a-cut", race, True), ("winner-a-taught", race, False))
    assert run.races == {"a": race} and run.known([])
    found: Any = SimpleNamespace(pruned="cut", model="taught")
    assert [running.winner.fn("", found, cut=cut) for cut in (True, False)] == ["cut", "taught"]
    assert running.halving.fn("", lambda _: SimpleNamespace(result=found), "found") is found
