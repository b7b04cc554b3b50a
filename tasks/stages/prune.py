"""The student's shape."""

from __future__ import annotations

from prefect import task

from conf.stages.prune import PruneConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def prune(
    label: str, config: PruneConfig, *, teacher: Artifact, data: Artifact, importance: Artifact | None
) -> Artifact:
    """Cut the teacher to the student's shape, by name or by importance."""
    return build(
        "prune", label, config, {"teacher": teacher, "data": data} | ({"importance": importance} if importance else {})
    )
