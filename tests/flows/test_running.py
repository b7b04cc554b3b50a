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
