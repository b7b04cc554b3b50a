"""What models do with long text: the loss by position, and facts planted in it."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Interval


class PositionLoss(Config):
    """The mean loss of a range of positions."""

    start: int = Field(description="First position, from 0.")
    end: int = Field(description="Position after the last.")
    loss: float = Field(description="Nats per token.")
    ci95: Interval | None = Field(description="95% interval over sequences; null: there is one sequence.")
    n: int = Field(description="Sequences.")


class FactsFound(Config):
    """How many facts of one length and depth were answered."""

    length: int = Field(description="Tokens of the text.")
    depth: float = Field(description="Where the fact stood, 0 (beginning) to 1 (right before the question).")
    right: int = Field(description="Facts that the greedy answer gives.")
    n: int = Field(description="Facts asked for.")
    ci95: Interval = Field(description="95% interval of their share (Wilson).")


class OnLongText(Config):
    """One model on long text (long.json of its evaluation)."""

    losses: tuple[PositionLoss, ...] = Field(description="By position.")
    found: tuple[FactsFound, ...] = Field(description="By length and depth.")
