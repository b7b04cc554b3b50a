"""What trainings with a document mask kept apart."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class KeptApart(Config):
    """Means over the steps of one training."""

    documents: float = Field(description="Documents, or parts of some, of a sequence.")
    mixed: float = Field(description="Share of sequences with more than one, 0 to 1.")
    left_out: float = Field(description="Share of targets that are another document's first token, not learned.")
