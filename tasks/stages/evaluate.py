"""What a model is worth."""

from __future__ import annotations

from prefect import task

from conf.stages.evaluate import EvaluateConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def evaluate(
    label: str,
    config: EvaluateConfig,
    *,
    model: Artifact,
    teacher: Artifact,
    data: Artifact,
    mmlu: Artifact | None,
    records: Artifact | None = None,
) -> Artifact:
    """Score a model: multiple choice, loss, divergence from the teacher, responses to held-out prompts, size and
    speed."""
    more = {role: artifact for role, artifact in (("mmlu", mmlu), ("records", records)) if artifact}
    return build("evaluate", label, config, {"model": model, "teacher": teacher, "data": data} | more)
