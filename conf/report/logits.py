"""How much of the teacher's output is stored for offline distillation."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Excerpt


class LogitsSplit(Excerpt):
    """One split of the stored logits."""

    rows: int = Field(description="Token positions with stored logits.")
    left_out: float = Field(description="Mean share of the teacher's probability that is not stored, 0 to 1.")


class StoredLogits(Config):
    """The logits stage of a run."""

    top_k: int = Field(description="Logits stored per token position.")
    vocab_size: int = Field(description="Vocabulary size.")
    bytes: int = Field(description="Size on disk, bytes.")
    splits: dict[str, LogitsSplit] = Field(description="By name: train and validation.")
