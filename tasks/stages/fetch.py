"""A model from the Hugging Face hub."""

from __future__ import annotations

from prefect import task

from conf.stages.fetch import FetchConfig
from tasks.build import build
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def fetch(label: str, config: FetchConfig) -> Artifact:
    """Download a model's safetensors, config and tokenizer, so that every later stage sees a local folder."""
    return build("fetch", label, config, {})
