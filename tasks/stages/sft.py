"""Fine-tuning on records."""

from __future__ import annotations

from prefect import task

from conf.stages.logits import LogitsConfig
from conf.stages.sft import SftConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def sft(
    label: str,
    config: SftConfig,
    *,
    student: Artifact,
    records: Artifact,
    teacher: Artifact | None = None,
    logits: Artifact | None = None,
) -> Artifact:
    """Fine-tune a model on records, beside a teacher, or by what was stored of it, if one is given."""
    more = {role: artifact for role, artifact in (("teacher", teacher), ("logits", logits)) if artifact}
    return build("sft", label, config, {"student": student, "records": records} | more)


@task(**OPTIONS)
def record_logits(label: str, config: LogitsConfig, *, teacher: Artifact, records: Artifact) -> Artifact:
    """Run the teacher once over the records and store its likeliest tokens of the responses."""
    return build("logits", label, config, {"teacher": teacher, "records": records})
