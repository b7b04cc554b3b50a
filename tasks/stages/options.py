"""What all tasks have in common: named after their label, and never cached by Prefect, which cannot see a job's inputs
or code."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

OPTIONS: dict[str, Any] = {"task_run_name": "{label}", "cache_policy": NO_CACHE, "persist_result": False, "retries": 0}


class Threads(ThreadPoolTaskRunner[Any]):
    """A thread a task, which only waits: the launcher counts cores and GPUs. A task that waits for others is called
    after its label too, where Prefect would show its function's name until it starts."""

    def __init__(self, max_workers: int = 64) -> None:
        super().__init__(max_workers=max_workers)

    def submit(self, task: Any, parameters: dict[str, Any], *more: Any, **named: Any) -> Any:
        """Submit a task of a stage."""
        return super().submit(task.with_options(name=parameters["label"]), parameters, *more, **named)


THREADS: Any = Threads()
"""The task runner of every flow; each run has its own copy."""
