"""What the stages share that score many cuts of one teacher quickly: on how much text, where, and along which axes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from conf.base import Execution, Precision, StageConfig
from conf.parallel import Parallel, RunsAs, pipeline_only

Axis = Literal["num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads"]
AXES: tuple[Axis, ...] = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads")


class QuickScore(StageConfig):
    """Loss and KL to the teacher of a cut, not yet taught, on the validation split; both models are in memory."""

    sequences: int = Field(
        default=64, ge=1, description="Sequences of the validation split that every cut is scored on."
    )
    seq_length: int = Field(default=4096, ge=8, description="Tokens of one sequence.")
    precision: Precision = Field(default="bf16", description="Precision of the forward pass.")
    micro_batch: Annotated[int, Execution()] = Field(default=1, ge=1, description="Sequences of one forward pass.")
    parallel: RunsAs = Field(
        default=Parallel(), description="Where it runs; ModelOpt prunes with tensor-parallel size 1."
    )

    @field_validator("parallel")
    @classmethod
    def _pipeline_only(cls, value: Parallel) -> Parallel:
        return pipeline_only(value, "scoring cuts runs")
