"""Teaching the student."""

from __future__ import annotations

from prefect import task

from conf.stages.distill import DistillConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def distill(
    label: str,
    config: DistillConfig,
    *,
    teacher: Artifact,
    student: Artifact,
    data: Artifact,
    logits: Artifact | None,
    mmlu: Artifact | None,
) -> Artifact:
    """Distil the teacher, or what was stored of it as `logits`, into the pruned student on the corpus; `mmlu` has the
    questions of the evaluations on the way, if there are."""
    inputs = {"teacher": teacher, "student": student, "data": data}
    if logits and config.offline:
        inputs["logits"] = logits
    if mmlu and config.evaluation and config.evaluation.mmlu:
        inputs["mmlu"] = mmlu
    return build("distill", label, config, inputs)
