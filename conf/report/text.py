"""What became of the text that a run read."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class TextCounts(Config):
    """One corpus, or the records."""

    kept: dict[str, int] = Field(description="Documents or records by split.")
    tokens: dict[str, int] = Field(description="Tokens by split.")
    quarantined: int = Field(description="Documents or records that cannot be used; quarantine.jsonl lists them.")
    reasons: dict[str, int] = Field(default={}, description="Why they cannot be used, for records.")
    left_out: dict[str, int] = Field(default={}, description="Others that are left out, by reason.")
    repaired: int = Field(default=0, description="Documents whose wrongly decoded characters were repaired.")
    fields_not_read: dict[str, int] = Field(default={}, description="Records by field that no part of them is from.")
    notes: tuple[str, ...] = Field(default=(), description="What was decided or left out while reading, in sentences.")
