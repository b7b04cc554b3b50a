"""The fetch stage: what comes from the Hugging Face hub."""

from __future__ import annotations

from pydantic import Field

from conf.base import StageConfig


class FetchConfig(StageConfig):
    """A model directory on the Hugging Face hub."""

    model: str = Field(description="Hub id, owner/name.")
    branch: str = Field(default="main", description="Branch, tag or commit on the hub.")
