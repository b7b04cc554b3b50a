"""The teacher's answers."""

from __future__ import annotations

from prefect import task

from conf.stages.generate import GenerateConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def generate(label: str, config: GenerateConfig, *, prompts: Artifact, teacher: Artifact | None) -> Artifact:
    """Let the teacher, or the server that stands for it, answer prompts."""
    return build("generate", label, config, {"prompts": prompts} | ({"teacher": teacher} if teacher else {}))
