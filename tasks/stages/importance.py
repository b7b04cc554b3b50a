"""What matters in the teacher."""

from __future__ import annotations

from prefect import task

from conf.stages.importance import ImportanceConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def importance(label: str, config: ImportanceConfig, *, teacher: Artifact, data: Artifact) -> Artifact:
    """Score the teacher's layers and channels by their activations on the corpus."""
    return build("importance", label, config, {"teacher": teacher, "data": data})
