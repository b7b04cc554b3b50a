"""Settings of a chat with a model."""

from __future__ import annotations

from pydantic import Field

from conf.base import Seed, StageConfig


class ConverseConfig(StageConfig):
    """Settings of `imbik chat`."""

    prompt: str | None = Field(
        default=None, description="Single prompt to answer; empty: interactive chat in the terminal."
    )
    system: str | None = Field(default=None, description="System message before the first prompt.")
    max_new_tokens: int = Field(default=256, gt=0, description="Maximum tokens per answer.")
    temperature: float = Field(default=0.0, ge=0, description="Sampling temperature; 0: greedy decoding.")
    seed: Seed = Field(default=1, description="Sampling seed.")
