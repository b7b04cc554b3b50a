"""Storing what the teacher says."""

from __future__ import annotations

from prefect import task

from conf.stages.logits import LogitsConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def logits(label: str, config: LogitsConfig, *, teacher: Artifact, data: Artifact) -> Artifact:
    """Run the teacher once over the corpus and store its likeliest tokens."""
    return build("logits", label, config, {"teacher": teacher, "data": data})
