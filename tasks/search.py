"""The shapes that meet a student's budget, scored."""

from __future__ import annotations

from prefect import task

from conf.search import SearchConfig
from tasks.build import build
from tasks.options import OPTIONS
from tasks.store import Artifact


@task(**OPTIONS)
def search(label: str, config: SearchConfig, *, teacher: Artifact, data: Artifact, importance: Artifact) -> Artifact:
    """List the shapes within the budget and score each as it is cut."""
    return build("search", label, config, {"teacher": teacher, "data": data, "importance": importance})
