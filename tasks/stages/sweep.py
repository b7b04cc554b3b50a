"""What each axis of the teacher costs by itself."""

from __future__ import annotations

from prefect import task

from conf.stages.sweep import SweepConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def sweep(label: str, config: SweepConfig, *, teacher: Artifact, data: Artifact, importance: Artifact) -> Artifact:
    """Cut the teacher along one axis at a time and score every cut."""
    return build("sweep", label, config, {"teacher": teacher, "data": data, "importance": importance})
