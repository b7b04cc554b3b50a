"""The search stage: score the shapes that fit a budget, then compare the best by successive halving."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution, Later, Resumes, Seed
from conf.stages.candidate_score import QuickScore, SearchAxis
from conf.stages.prune import Ranking


class Halving(Config):
    """Successive halving: each round distils the remaining candidates with twice the tokens and keeps the better half,
    until one is left."""

    top_k: int = Field(
        default=4,
        ge=1,
        description=(
            "Candidates in the first round, by quick score; 1: the best quick score wins without distillation."
        ),
    )
    rounds: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of rounds; empty: until one candidate is left. The best of the last round wins.",
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        description="Optimizer steps of the first round, doubled in each later round; empty: a tenth of distill.steps.",
    )

    @model_validator(mode="after")
    def _no_empty_rounds(self) -> Self:
        most = math.ceil(math.log2(self.top_k))
        if self.rounds is not None and self.rounds > most:
            raise ValueError(
                f"search.halving.rounds is {self.rounds} but {self.top_k} candidates need only {most}; choose at most"
                f" {most}"
            )
        return self

    def sizes(self, candidates: int) -> list[int]:
        """Number of candidates in each round, out of `candidates`."""
        sizes: list[int] = []
        remaining = min(self.top_k, candidates)
        while remaining > 1 and (self.rounds is None or len(sizes) < self.rounds):
            sizes.append(remaining)
            remaining = -(-remaining // 2)
        return sizes


class SearchConfig(QuickScore):
    """Search for a student's shape within a budget: the largest shapes that meet the targets are cut and scored."""

    stage: ClassVar[str] = "search"
    writes: ClassVar[tuple[str, ...]] = ("search.json",)
    resumes: ClassVar[Resumes] = "metrics"

    target_params: float | None = Field(
        default=None,
        gt=0,
        description="Maximum parameters of the student: a count, or below 1 a share of the teacher's.",
    )
    target_memory_mb: float | None = Field(
        default=None,
        gt=0,
        description="Maximum MB (10^6 bytes) of bf16 weights and KV cache at memory_batch and memory_length.",
    )
    target_cache_bytes: Annotated[int | None, Later()] = Field(
        default=None, ge=1, description="Maximum bytes of KV cache for a token, in bf16."
    )
    target_active_params: Annotated[float | None, Later()] = Field(
        default=None,
        gt=0,
        description=(
            "Maximum parameters that a token passes in a mixture of experts: a count, or below 1 a share of the"
            " teacher's."
        ),
    )
    memory_batch: int = Field(default=1, ge=1, description="Sequences in the KV cache.")
    memory_length: int = Field(default=4096, ge=1, description="Tokens per sequence in the KV cache.")
    max_width_pruning: float = Field(default=0.4, ge=0, lt=1, description="Maximum share of each width axis to cut.")
    max_depth_pruning: float = Field(default=0.2, ge=0, lt=1, description="Maximum share of the layers to cut.")
    axes: tuple[SearchAxis, ...] | None = Field(
        default=None, description="Axes to cut; empty: all but num_query_groups and num_experts."
    )
    layers_divisor: int = Field(default=2, ge=1, description="The number of layers is cut to multiples of this.")
    hidden_divisor: int = Field(default=256, ge=1, description="hidden_size is cut to multiples of this.")
    ffn_divisor: int = Field(default=512, ge=1, description="ffn_hidden_size is cut to multiples of this.")
    heads_divisor: int = Field(
        default=1, ge=1, description="Query heads are cut to multiples of this and of the number of query groups."
    )
    candidates: int = Field(
        default=10, ge=1, description="Number of shapes to score: the largest that meet the targets."
    )
    ranking: Ranking = Field(
        default="activation", description="How layers and channels are ranked, as in prune.ranking."
    )
    seed: Seed = Field(default=1, description="Seed of random ranking.")
    experts_divisor: Annotated[int, Later()] = Field(
        default=8, ge=1, description="num_experts is cut to multiples of this, where axes names it."
    )
    # Not hashed: halving uses the scores and does not change them.
    halving: Annotated[Halving, Execution()] = Field(
        default=Halving(), description="How the best candidates are compared by short distillations."
    )

    @model_validator(mode="after")
    def _a_budget(self) -> Self:
        targets = ("target_params", "target_active_params", "target_memory_mb", "target_cache_bytes")
        if all(getattr(self, target) is None for target in targets):
            raise ValueError(f"search has no budget; set {', '.join(targets[:-1])} or {targets[-1]}")
        if (self.axes is not None and len(set(self.axes)) != len(self.axes)) or self.axes == ():
            raise ValueError(f"search.axes is {list(self.axes or ())}; list distinct axes, or leave it empty for all")
        if self.halving.top_k > self.candidates:
            raise ValueError(
                f"search.halving.top_k is {self.halving.top_k} but search.candidates is {self.candidates}; choose at"
                f" most {self.candidates}"
            )
        return self
