"""What a model is worth."""

from __future__ import annotations

from prefect import task

from conf.evaluate import EvaluateConfig
from tasks.build import build
from tasks.options import OPTIONS
from tasks.store import Artifact


@task(**OPTIONS)
def evaluate(label: str, config: EvaluateConfig, *, model: Artifact, teacher: Artifact, data: Artifact, mmlu: Artifact | None) -> Artifact:
    """Score a model: multiple choice, loss, divergence from the teacher, size and speed."""
    return build("evaluate", label, config, {"model": model, "teacher": teacher, "data": data} | ({"mmlu": mmlu} if mmlu else {}))
