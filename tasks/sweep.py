"""What each axis of the teacher costs by itself."""

from __future__ import annotations

from prefect import task

from conf.sweep import SweepConfig
from tasks.build import build
from tasks.options import OPTIONS
from tasks.store import Artifact


@task(**OPTIONS)
def sweep(label: str, config: SweepConfig, *, teacher: Artifact, data: Artifact, importance: Artifact) -> Artifact:
    """Cut the teacher along one axis at a time and score every cut."""
    return build("sweep", label, config, {"teacher": teacher, "data": data, "importance": importance})
