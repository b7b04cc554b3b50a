"""Fine-tuning on records."""

from __future__ import annotations

from prefect import task

from conf.sft import SftConfig
from tasks.build import build
from tasks.options import OPTIONS
from tasks.store import Artifact


@task(**OPTIONS)
def sft(label: str, config: SftConfig, *, student: Artifact, records: Artifact, teacher: Artifact | None) -> Artifact:
    """Fine-tune a model on records, beside a teacher if one is given."""
    return build("sft", label, config, {"student": student, "records": records} | ({"teacher": teacher} if teacher else {}))
