"""Settings shared by the stages that score many cuts of one teacher quickly (search, sweep)."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from conf.base import Execution, Precision, StageConfig
from conf.estimate import flops, memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import Parallel, RunsAs, pipeline_only
from conf.shape import num_params

Axis = Literal["num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups"]
AXES: tuple[Axis, ...] = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads")
"""The axes of Minitron, which are cut where none are named."""
ALL_AXES: tuple[Axis, ...] = get_args(Axis)
SearchAxis = Axis | Literal["num_experts"]
SEARCH_AXES: tuple[SearchAxis, ...] = (*ALL_AXES, "num_experts")


class QuickScore(StageConfig):
    """Loss and KL from the teacher of undistilled cuts on the validation split; both models are in memory."""

    sequences: int = Field(default=64, ge=1, description="Validation sequences on which every cut is scored.")
    seq_length: int = Field(default=4096, ge=8, description="Tokens per sequence.")
    precision: Precision = Field(default="bf16", description="Precision of the forward pass.")
    micro_batch: Annotated[int, Execution()] = Field(default=1, ge=1, description="Sequences per forward pass.")
    parallel: RunsAs = Field(
        default=Parallel(), description="Parallel layout; ModelOpt prunes with tensor-parallel size 1."
    )

    @field_validator("parallel")
    @classmethod
    def _pipeline_only(cls, value: Parallel) -> Parallel:
        return pipeline_only(value, "scoring cuts runs")

    def estimate(self, models: Models) -> StageEstimate | None:
        """Two models in memory, the teacher and the cut; one pass per cut and one for the teacher."""
        teacher, tokens = models.teacher, (models.cuts + 1) * self.sequences * self.seq_length

        def peak(parallel: Parallel, micro_batch: int, device: passes.Device) -> memory.Memory:
            return memory.passing(teacher, passes.batch_of(self, micro_batch, device), parallel, models=2)

        return StageEstimate(
            params=num_params(teacher),
            tokens=tokens,
            work=flops.passed((teacher, teacher), tokens, self.seq_length),
            job=JobEstimate.forward(self, peak, "pipeline", models.where, teacher),
        )
