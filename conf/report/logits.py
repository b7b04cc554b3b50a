"""How much of the teacher was stored for students that are taught offline."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Excerpt


class LogitsSplit(Excerpt):
    """One split of the stored logits."""

    rows: int = Field(description="Tokens whose next-token logits are stored.")
    left_out: float = Field(description="Share of the teacher's probability that is not stored, 0 to 1.")


class StoredLogits(Config):
    """The logits stage of a run."""

    top_k: int = Field(description="Logits stored for each token.")
    vocab_size: int = Field(description="Tokens of the vocabulary.")
    bytes: int = Field(description="Bytes on disk.")
    splits: dict[str, LogitsSplit] = Field(description="By name: train and validation.")
