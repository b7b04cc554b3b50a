"""Text to tokens."""

from __future__ import annotations

from prefect import task

from conf.data import DataConfig
from tasks.build import build
from tasks.options import OPTIONS
from tasks.store import Artifact


@task(**OPTIONS)
def data(label: str, config: DataConfig, *, source: Artifact, tokenizer: Artifact | None, trained_on: Artifact | None = None) -> Artifact:
    """Read, split and tokenize the corpus; with no tokenizer given, by that of another corpus, else one is trained on it."""
    tokenizer = tokenizer or (trained_on and words_of(trained_on))
    return build("data", label, config, {"source": source} | ({"tokenizer": tokenizer} if tokenizer else {}))


def words_of(corpus: Artifact) -> Artifact:
    """The tokenizer that was trained on a corpus."""
    return Artifact(stage="tokenizer", key=corpus.key, path=f"{corpus.path}/tokenizer")
