"""Pruning: what each cut kept, how each search went, and what cutting each axis costs."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Excerpt
from conf.stages.candidate_score import Axis
from conf.stages.prune import CutAxis


class KeptPart(Excerpt):
    """What a cut kept along one axis."""

    of: int = Field(description="Layers, channels, heads or experts before the cut.")
    count: int = Field(description="How many are kept.")
    ranges: str = Field(
        description=(
            "Which ones, such as 1-3, 7: layers from 1, channels, heads and experts from 0; 0+2: heads that became one."
        )
    )
    share: float | None = Field(
        description="Share of the total importance they hold, 0 to 1; null: importance was not measured."
    )
    gini: float | None = Field(
        description=(
            "Gini coefficient of their importance: 0 if all are alike, towards 1 if few dominate; null: not measured."
        )
    )


class CacheBytes(Excerpt):
    """Bytes of KV cache for a token in 16 bits."""

    before: int = Field(description="Of the model that was cut.")
    after: int = Field(description="Of what is left.")

    @property
    def saved(self) -> float:
        """Share that the cut saves."""
        return 1 - self.after / self.before


class Cut(Excerpt):
    """What a cut kept (kept.json of a prune stage)."""

    ranking: str | None = Field(description="Ranking that decided what was cut; null: the layers were named.")
    reinitialized: bool = Field(default=False, description="Whether its weights were reinitialized (a baseline).")
    axes: dict[CutAxis, KeptPart | dict[str, KeptPart]] = Field(
        description="By axis; if each layer was cut separately, by layer number (from 1)."
    )
    cache_bytes: CacheBytes | None = Field(
        default=None, description="KV cache of a token before and after the cut; null: it was not told then."
    )
    path: str = Field(description="Path of kept.json, which lists every kept channel.")


class Sizes(Excerpt):
    """Sizes along the axes that can be cut."""

    num_layers: int = Field(description="Decoder layers.")
    hidden_size: int = Field(description="Hidden channels.")
    ffn_hidden_size: int = Field(description="Channels of the feed-forward layers.")
    num_attention_heads: int = Field(description="Query heads.")
    num_query_groups: int | None = Field(
        default=None, description="Key-value heads; null: those of the teacher, which were not cut then."
    )
    num_experts: int | None = Field(default=None, description="Experts of a layer; null: it is dense.")


class ScoredShape(Excerpt):
    """A shape and its quick score before any distillation, on the validation sequences of the search."""

    shape: Sizes
    params: int = Field(description="Parameters.")
    active: int | None = Field(default=None, description="Those that a token passes, in a mixture; null: all.")
    memory_mb: float = Field(description="Memory for weights and KV cache when serving, MB (1e6 bytes).")
    val_loss: float = Field(description="Loss right after the cut, nats per token.")
    kl: float = Field(description="KL(teacher || model) right after the cut, nats per token.")


class SearchCandidate(ScoredShape):
    """A candidate of a search."""

    number: int = Field(description="Its number in search.json, from 1.")
    losses: tuple[float, ...] = Field(
        default=(), description="Validation loss after each round it reached, nats per token."
    )
    ranks: tuple[int, ...] = Field(
        default=(),
        description=(
            "Its rank by loss among the distilled candidates, from 1: after the cut, then each round; else empty."
        ),
    )


class SearchRound(Config):
    """One round of successive halving."""

    steps: int = Field(description="Distillation steps per candidate.")
    tokens: int = Field(description="Distillation tokens per candidate.")
    candidates: int = Field(description="Candidates distilled in this round.")


class Search(Config):
    """How a student's search went."""

    winner: int = Field(description="Number of the winning candidate.")
    candidates: tuple[SearchCandidate, ...] = Field(
        description="All scored candidates, lowest loss after the cut first."
    )
    rounds: tuple[SearchRound, ...] = Field(description="Rounds of distillation; empty: the quick score decided.")
    teacher: ScoredShape = Field(description="The uncut teacher.")


class SweepTeacher(Excerpt):
    """The uncut teacher of a sweep."""

    params: int = Field(description="Parameters.")
    val_loss: float = Field(description="Loss on the validation split, nats per token.")


class SweepPoint(Excerpt):
    """The teacher cut along one axis, not distilled."""

    axis: Axis = Field(description="Axis that was cut.")
    ratio: float = Field(description="Requested size as a share of the axis, 0 to 1.")
    size: int = Field(description="Size along the axis after the cut.")
    of: int = Field(description="Size along the axis before the cut.")
    params: int = Field(description="Parameters left.")
    val_loss: float = Field(description="Loss after the cut on the validation split, nats per token.")
    kl: float = Field(description="KL(teacher || cut) on that split, nats per token.")


class Sweep(Excerpt):
    """The cost of cutting each axis alone (sweep.json)."""

    teacher: SweepTeacher
    points: tuple[SweepPoint, ...] = Field(description="Grouped by axis, the deepest cut last.")
