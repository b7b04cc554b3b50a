"""Multi-token prediction: heads that learn the tokens after the next one beside the model, and draft them later."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import Config, Later
from conf.stages.training import Training

MOST_HEADS = 8
"""Bound of heads: each costs about a layer, and drafts past the third are hardly accepted (FastMTP)."""


class Mtp(Config):
    """Heads in DeepSeek-V3's form (arXiv 2412.19437): each combines the hidden state before it with the embedding of
    the token that it may already know, runs one layer, and shares the model's embedding and output."""

    heads: int = Field(
        default=1, ge=1, le=MOST_HEADS, description="Heads; the first learns the token after the next one."
    )
    weight: float = Field(
        default=0.1, gt=0, le=10, description="Weight of the mean of the heads' losses beside the model's own."
    )
    detach: bool = Field(
        default=False,
        description="The heads' losses teach the heads alone, not the model below them, its embedding and its output.",
    )


class WithHeads(Training):
    """Training that may teach heads beside the model."""

    mtp: Annotated[Mtp | None, Later()] = Field(
        default=None, description="Heads for multi-token prediction, trained beside the model; empty: none."
    )

    @model_validator(mode="after")
    def _headed(self) -> Self:
        if self.mtp is None:
            return self
        if not self.steps:
            raise ValueError("mtp needs training steps, and steps is 0; remove mtp or train")
        shortest = min(self.seq_length, *(span.config.seq_length for span in self.spans))
        if self.mtp.heads + 1 >= shortest:
            raise ValueError(
                f"mtp.heads is {self.mtp.heads} but a sequence of {shortest} tokens has no tokens so far ahead; choose"
                f" at most {shortest - 2} heads or raise {'its ' if shortest < self.seq_length else ''}seq_length"
            )
        for axis in ("pipeline", "context"):
            if getattr(self.parallel, axis) > 1:
                raise ValueError(
                    f"mtp is set but parallel.{axis} is {getattr(self.parallel, axis)}, over whose ranks heads do not"
                    " run; choose 1 or remove mtp"
                )
        if getattr(self, "offline", False):
            raise ValueError("mtp is set but offline is true, whose stored logits no head reads; remove either")
        return self
