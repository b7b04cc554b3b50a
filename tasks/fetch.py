"""A model from the Hugging Face hub."""

from __future__ import annotations

from prefect import task

from conf.fetch import FetchConfig
from tasks.build import build
from tasks.options import OPTIONS
from tasks.store import Artifact


@task(**OPTIONS)
def fetch(label: str, config: FetchConfig) -> Artifact:
    """Download a model's safetensors, config and tokenizer, so that every later stage sees a local folder."""
    return build("fetch", label, config, {})
