"""What is measured on long text: the loss by position, and facts planted in it that are asked for."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import Config, Seed

LEAST = 128
"""Tokens that a fact, its question and some text around it need."""


class LongText(Config):
    """Long sequences in an evaluation."""

    lengths: tuple[Annotated[int, Field(ge=LEAST)], ...] = Field(
        min_length=1, description="Tokens of the texts in which facts are planted; the longest is that of the losses."
    )
    depths: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.0, 0.25, 0.5, 0.75, 1.0),
        min_length=1,
        description="Where in a text a fact is planted: 0 is its beginning, 1 right before the question.",
    )
    facts: int = Field(default=10, ge=1, le=1000, description="Facts asked for at each length and depth.")
    sequences: int = Field(
        default=16, ge=1, description="Maximum sequences of the longest length to score by position."
    )
    seed: Seed = Field(default=1, description="Seed of the texts and facts.")

    @model_validator(mode="after")
    def _once(self) -> Self:
        for name in ("lengths", "depths"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"long_text.{name} has duplicate values; list each once")
        return self

    @property
    def longest(self) -> int:
        """The longest length."""
        return max(self.lengths)
