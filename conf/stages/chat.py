"""Talking to a model: how much it may say, and how freely."""

from __future__ import annotations

from pydantic import Field

from conf.base import StageConfig


class ConverseConfig(StageConfig):
    """Settings of `imbik chat`."""

    prompt: str | None = Field(
        default=None, description="One prompt, answered once; empty: a conversation on the terminal."
    )
    system: str | None = Field(default=None, description="What the model is told before the first prompt.")
    max_new_tokens: int = Field(default=256, gt=0, description="Tokens of an answer at most.")
    temperature: float = Field(default=0.0, ge=0, description="0: always the likeliest token.")
    seed: int = Field(default=1, ge=0, description="Seed of the sampling.")
