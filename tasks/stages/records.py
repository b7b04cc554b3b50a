"""Prompts and responses to masked tokens."""

from __future__ import annotations

from prefect import task

from conf.stages.records import RecordsConfig
from tasks import inputs as external
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def records(
    label: str,
    config: RecordsConfig,
    *,
    source: Artifact | None,
    generated: Artifact | None,
    tokenizer: Artifact | None,
    data: Artifact,
) -> Artifact:
    """Render, tokenize and mask conversations; the corpus stands for its tokenizer where that was trained on it."""
    return build(
        "records",
        label,
        config,
        external.of_records(source=source, generated=generated, tokenizer=tokenizer, data=data),
    )
