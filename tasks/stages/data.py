"""Text to tokens."""

from __future__ import annotations

from prefect import task

from conf.stages.data import DataConfig
from tasks.build import build
from tasks.inputs import words_of
from tasks.stages.options import OPTIONS
from tasks.store.store import Artifact


@task(**OPTIONS)
def data(
    label: str, config: DataConfig, *, source: Artifact, tokenizer: Artifact | None, trained_on: Artifact | None = None
) -> Artifact:
    """Read, split and tokenize the corpus; with no tokenizer given, by that of another corpus, else one is trained on
    it."""
    tokenizer = tokenizer or (trained_on and words_of(trained_on))
    return build("data", label, config, {"source": source} | ({"tokenizer": tokenizer} if tokenizer else {}))
