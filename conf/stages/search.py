"""The search stage: the shapes that fit a budget, scored; and how the best of them are played off against each
other."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution, Resumes
from conf.stages.candidate_score import Axis, QuickScore
from conf.stages.prune import Ranking


class Halving(Config):
    """The best candidates each get a short distillation; the better half of them goes on with twice the tokens, until
    one is left."""

    top_k: int = Field(
        default=4, ge=1, description="Candidates that start, best quick score first; 1: the best score wins untaught."
    )
    rounds: int | None = Field(
        default=None, ge=1, description="Rounds at most; empty: until one is left. The last round's best wins."
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        description="Optimizer steps of the first round, doubled in each later one; empty: a tenth of distill.steps.",
    )

    @model_validator(mode="after")
    def _no_empty_rounds(self) -> Self:
        most = math.ceil(math.log2(self.top_k))
        if self.rounds is not None and self.rounds > most:
            raise ValueError(
                f"search.halving.rounds is {self.rounds} but {self.top_k} candidates leave one after {most}; choose at"
                " most that"
            )
        return self

    def sizes(self, candidates: int) -> list[int]:
        """How many candidates each round teaches, where `candidates` were found."""
        found: list[int] = []
        left = min(self.top_k, candidates)
        while left > 1 and (self.rounds is None or len(found) < self.rounds):
            found.append(left)
            left = -(-left // 2)
        return found


class SearchConfig(QuickScore):
    """A student's shape by budget: every shape within the bounds that meets the targets, the largest of them scored as
    they are cut."""

    stage: ClassVar[str] = "search"
    writes: ClassVar[tuple[str, ...]] = ("search.json",)
    resumes: ClassVar[Resumes] = "metrics"

    target_params: float | None = Field(
        default=None, gt=0, description="Parameters the student may have: a count, or up to 1 a share of the teacher's."
    )
    target_memory_mb: float | None = Field(
        default=None,
        gt=0,
        description="MB (10^6 bytes) its bf16 weights and KV cache may take at memory_batch and memory_length.",
    )
    memory_batch: int = Field(default=1, ge=1, description="Sequences in the KV cache.")
    memory_length: int = Field(default=4096, ge=1, description="Tokens of each sequence in the KV cache.")
    max_width_pruning: float = Field(
        default=0.4, ge=0, lt=1, description="Share of each width axis that may be cut at most."
    )
    max_depth_pruning: float = Field(
        default=0.2, ge=0, lt=1, description="Share of the layers that may be cut at most."
    )
    axes: tuple[Axis, ...] | None = Field(default=None, description="Axes that may be cut; empty: all that can be.")
    layers_divisor: int = Field(default=2, ge=1, description="Layers are cut to multiples of this.")
    hidden_divisor: int = Field(default=256, ge=1, description="The residual stream is cut to multiples of this.")
    ffn_divisor: int = Field(default=512, ge=1, description="The MLP is cut to multiples of this.")
    heads_divisor: int = Field(
        default=1, ge=1, description="Query heads are cut to multiples of this and of the query groups."
    )
    candidates: int = Field(default=10, ge=1, description="Shapes that are scored: the largest that meet the targets.")
    ranking: Ranking = Field(default="activation", description="What is cut away is ranked by: as in prune.ranking.")
    seed: int = Field(default=1, ge=0, description="Seed of a random ranking.")
    # What is done with the scores changes none of them.
    halving: Annotated[Halving, Execution()] = Field(
        default=Halving(), description="How the best candidates are compared once taught."
    )

    @model_validator(mode="after")
    def _a_budget(self) -> Self:
        if self.target_params is None and self.target_memory_mb is None:
            raise ValueError("search has no budget; give target_params, target_memory_mb or both")
        if (self.axes is not None and len(set(self.axes)) != len(self.axes)) or self.axes == ():
            raise ValueError(f"search.axes {list(self.axes or ())} must name distinct axes; leave it out for all")
        if self.halving.top_k > self.candidates:
            raise ValueError(
                f"search.halving.top_k is {self.halving.top_k} but only search.candidates {self.candidates} are scored;"
                " choose at most that"
            )
        return self
