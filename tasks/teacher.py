"""The model to compress."""

from __future__ import annotations

from prefect import task

from conf.teacher import TeacherConfig
from tasks.build import build
from tasks.options import OPTIONS
from tasks.store import Artifact


@task(**OPTIONS)
def teacher(label: str, config: TeacherConfig, *, data: Artifact, model: Artifact | None) -> Artifact:
    """Import the model, or make it from a shape; then train it on the corpus unless `steps` is 0."""
    return build("teacher", label, config, {"data": data} | ({"model": model} if model else {}))
