"""The gradients of a training: their norms, how often they were clipped, and the steps that were skipped."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Excerpt


class SkippedStep(Config):
    """A spike, whose update was left out."""

    step: int = Field(description="Number of the step, from 1.")
    reason: str = Field(description="Why it is a spike, as the end of a sentence.")


class Rewound(Config):
    """A spike from which training went back."""

    step: int = Field(description="Number of the step that was a spike.")
    to: int = Field(description="Step that it went on from.")
    left_out: int = Field(description="Batches that were left out.")
    reason: str = Field(description="Why it is a spike, as the end of a sentence.")


class Skipped(Excerpt):
    """The spikes of a training (spikes.json)."""

    skipped: tuple[SkippedStep, ...] = Field(description="In order; empty: none was found.")
    rewound: tuple[Rewound, ...] = Field(default=(), description="In order; empty: training never went back.")


class Gradients(Config):
    """The gradients of one training."""

    steps: int = Field(description="Steps trained.")
    clip_grad: float = Field(description="Norm to which gradients were clipped.")
    clipped: float = Field(description="Share of the steps whose gradient was clipped, 0 to 1.")
    median: float = Field(description="Median norm before clipping.")
    highest: float = Field(description="Highest finite norm before clipping.")
    tokens: tuple[int, ...] = Field(description="Tokens seen after each point of the figure.")
    norm: tuple[float, ...] = Field(description="Highest norm since the point before.")
    attention_logit: tuple[float, ...] = Field(
        default=(), description="Largest attention logit since the point before; empty: not logged."
    )
    bound: float | None = Field(default=None, description="Bound of attention logits (qk_clip); null: none.")
    spikes: Skipped | None = Field(default=None, description="null: spikes were not looked for.")
