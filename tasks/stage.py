"""The Prefect task for all stages: their configs are in conf/stages, their programs in jobs/.

In Prefect's UI a task has the stage's label as its name, for instance distill-depth. Caching is done by the store, not
by Prefect, which cannot see a job's inputs or code."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from conf.base import StageConfig
from tasks.build import build
from tasks.inputs import by_key
from tasks.store.store import Artifact

OPTIONS: dict[str, Any] = {
    "task_run_name": "{label}",
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 0,
}


class Threads(ThreadPoolTaskRunner[Any]):
    """One thread per task: tasks only wait, the launcher schedules cores and GPUs. A pending task is named after its
    label too, where Prefect would show the function's name until it starts."""

    def __init__(self, max_workers: int = 64) -> None:
        super().__init__(max_workers=max_workers)

    def submit(self, task: Any, parameters: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Submit a task, named after its label."""
        return super().submit(task.with_options(name=parameters["label"]), parameters, *args, **kwargs)


THREADS: Any = Threads()
"""The task runner of every flow; each run has its own copy."""


@task(**OPTIONS)
def stage(label: str, config: StageConfig, inputs: dict[str, Artifact]) -> Artifact:
    """The artifact of a stage from inputs by role, from the store or built by its job."""
    return build(label, config, by_key(inputs))
