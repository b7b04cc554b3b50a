"""The Prefect task of all stages: what Prefect does with it, and how many wait side by side."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.stage import THREADS, Threads, stage


def test_prefect_keeps_repeats_and_caches_nothing_of_a_stage() -> None:
    """The store knows what is made, and a failed job is retried by its own settings, not blindly by Prefect."""
    assert (stage.persist_result, stage.cache_policy, stage.retries) == (False, NO_CACHE, 0)
    assert stage.task_run_name == "{label}"


class Named:
    """A task that keeps the names it is given."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def with_options(self, name: str) -> Named:
        self.names.append(name)
        return self


def test_a_pending_task_is_named_after_its_label(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(ThreadPoolTaskRunner, "submit", lambda self, *args, **named: given.append((args, named)))
    task = Named()
    Threads().submit(task, {"label": "distill-depth", "config": 1}, "more", wait_for=[])
    assert task.names == ["distill-depth"]
    assert given == [((task, {"label": "distill-depth", "config": 1}, "more"), {"wait_for": []})]


@pytest.mark.parametrize("runner", [THREADS, Threads()], ids=["of flows", "new"])
def test_exactly_64_tasks_wait_side_by_side(runner: Any) -> None:
    """The 65th begins when one ends: each holds a thread, and a student's stages before it in the queue never wait for
    one behind."""
    begun, go = threading.Semaphore(0), threading.Event()

    def wait() -> None:
        begun.release()
        go.wait(20)

    with runner.duplicate() as running:
        futures = [running._executor.submit(wait) for _ in range(65)]
        try:
            assert all(begun.acquire(timeout=20) for _ in range(64))
            assert not begun.acquire(timeout=0.05)
        finally:
            go.set()
        assert [future.result(20) for future in futures] == [None] * 65
        assert begun.acquire(timeout=20)
