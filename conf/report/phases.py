"""The phases in which models were trained."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class TrainedPhase(Config):
    """One phase of a training."""

    model: str = Field(description="Model that was trained.")
    phase: int = Field(description="Its number, from 1.")
    start: int = Field(description="Steps made before it.")
    end: int = Field(description="Step after which it ends.")
    tokens: int = Field(description="Tokens that it reads.")
    seq_length: int = Field(description="Tokens of its sequences.")
    rotary: str | None = Field(default=None, description="How it changes the rotary embedding; null: it does not.")
    rate: str | None = Field(default=None, description="Its learning rate; null: the training's own curve goes on.")
    val_loss: float | None = Field(
        default=None, description="Loss at its last validation, nats per token; null: there was none in it."
    )
