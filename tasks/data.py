"""Text to tokens."""

from __future__ import annotations

from prefect import task

from conf.data import DataConfig
from tasks.build import build
from tasks.options import OPTIONS
from tasks.store import Artifact


@task(**OPTIONS)
def data(label: str, config: DataConfig, *, source: Artifact, tokenizer: Artifact | None) -> Artifact:
    """Read, split and tokenize the corpus; with no tokenizer given, one is trained on it."""
    return build("data", label, config, {"source": source} | ({"tokenizer": tokenizer} if tokenizer else {}))
