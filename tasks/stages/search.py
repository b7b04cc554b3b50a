"""The shapes that meet a student's budget, scored."""

from __future__ import annotations

from prefect import task

from conf.stages.search import SearchConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def search(label: str, config: SearchConfig, *, teacher: Artifact, data: Artifact, importance: Artifact) -> Artifact:
    """List the shapes within the budget and score each as it is cut."""
    return build("search", label, config, {"teacher": teacher, "data": data, "importance": importance})
