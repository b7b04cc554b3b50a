"""The model to compress."""

from __future__ import annotations

from prefect import task

from conf.stages.teacher import TeacherConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def teacher(label: str, config: TeacherConfig, *, data: Artifact, model: Artifact | None) -> Artifact:
    """Import the model, or make it from a shape; then train it on the corpus unless `steps` is 0."""
    return build("teacher", label, config, {"data": data} | ({"model": model} if model else {}))
