"""Pruning: what each cut kept, how the searches went, and what each axis costs."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Excerpt
from conf.stages.candidate_score import Axis


class KeptPart(Excerpt):
    """What a cut kept along one axis."""

    of: int = Field(description="Layers, channels or heads before the cut.")
    count: int = Field(description="Those kept.")
    ranges: str = Field(description="Which, such as 1-3, 7: layers from 1, channels and heads from 0.")
    share: float | None = Field(
        description="Their share of all importance measured, 0 to 1; None: nothing was measured."
    )
    gini: float | None = Field(description="How unevenly their importance is spread, from 0 (alike) towards 1.")


class Cut(Excerpt):
    """What a cut kept (kept.json of a prune stage)."""

    ranking: str | None = Field(description="What ranked it; None: the layers were named.")
    reinitialized: bool = Field(default=False, description="Whether its weights were drawn anew (a baseline).")
    axes: dict[Axis, KeptPart | dict[str, KeptPart]] = Field(
        description="By axis; where each layer cuts its own, by layer number (from 1)."
    )
    path: str = Field(description="The file itself, with every kept channel.")


class Sizes(Excerpt):
    """Sizes of a shape along the axes that can be cut."""

    num_layers: int = Field(description="Decoder layers.")
    hidden_size: int = Field(description="Hidden channels.")
    ffn_hidden_size: int = Field(description="Channels of the feed-forward layers.")
    num_attention_heads: int = Field(description="Query heads.")


class ScoredShape(Excerpt):
    """A shape and its quick score, untaught, on validation sequences of the search."""

    shape: Sizes
    params: int = Field(description="Parameters.")
    memory_mb: float = Field(description="Memory while it serves, MB (1e6 bytes).")
    val_loss: float = Field(description="Loss as cut, nats per token.")
    kl: float = Field(description="KL(teacher || model) as cut, nats per token.")


class SearchCandidate(ScoredShape):
    """A candidate of a search."""

    number: int = Field(description="Its number in search.json, from 1.")
    losses: tuple[float, ...] = Field(
        default=(), description="Validation loss after each round it reached, nats per token."
    )
    ranks: tuple[int, ...] = Field(
        default=(),
        description="Its rank by loss among those taught, from 1: as cut, then after each round; empty: not taught.",
    )


class SearchRound(Config):
    """One round of successive halving."""

    steps: int = Field(description="Steps that each candidate is taught.")
    tokens: int = Field(description="Tokens that each candidate is taught on.")
    candidates: int = Field(description="Candidates taught.")


class Search(Config):
    """How a student's search went."""

    winner: int = Field(description="Number of the winning candidate.")
    candidates: tuple[SearchCandidate, ...] = Field(description="All that were scored, the best as cut first.")
    rounds: tuple[SearchRound, ...] = Field(description="Rounds of teaching; empty: none was taught.")
    teacher: ScoredShape = Field(description="The uncut teacher.")


class SweepTeacher(Excerpt):
    """The uncut teacher of a sweep."""

    params: int = Field(description="Parameters.")
    val_loss: float = Field(description="Loss on the validation split, nats per token.")


class SweepPoint(Excerpt):
    """The teacher cut along one axis and not taught."""

    axis: Axis = Field(description="Axis that was cut.")
    ratio: float = Field(description="Share of the axis that was asked for, 0 to 1.")
    size: int = Field(description="Size along the axis after the cut.")
    of: int = Field(description="Size along the axis before the cut.")
    params: int = Field(description="Parameters left.")
    val_loss: float = Field(description="Loss as cut on the validation split, nats per token.")
    kl: float = Field(description="KL(teacher || cut) there, nats per token.")


class Sweep(Excerpt):
    """What each axis costs by itself (sweep.json)."""

    teacher: SweepTeacher
    points: tuple[SweepPoint, ...] = Field(description="By axis, the deepest cut of an axis last.")
