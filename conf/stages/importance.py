"""The importance stage: scores of layers and channels for pruning."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from conf.base import Execution, Precision, StageConfig
from conf.estimate import flops, memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import Parallel, RunsAs, pipeline_only
from conf.shape import num_params


class ImportanceConfig(StageConfig):
    """Activation-based importance of layers and channels, measured once per teacher and shared by all its students."""

    stage: ClassVar[str] = "importance"
    writes: ClassVar[tuple[str, ...]] = ("importance.json", "importance.safetensors")

    calibration_samples: int = Field(default=1024, ge=1, description="Calibration sequences.")
    seq_length: int = Field(default=4096, ge=8, description="Tokens per calibration sequence.")
    precision: Precision = Field(default="bf16", description="Precision of the forward pass.")
    micro_batch: Annotated[int, Execution()] = Field(default=1, ge=1, description="Sequences per forward pass.")
    parallel: RunsAs = Field(
        default=Parallel(), description="Parallel layout; ModelOpt scores with tensor-parallel size 1."
    )

    @field_validator("parallel")
    @classmethod
    def _pipeline_only(cls, value: Parallel) -> Parallel:
        return pipeline_only(value, "importance runs")

    def estimate(self, models: Models) -> StageEstimate | None:
        """One pass over the calibration samples with hooks on every layer."""
        tokens = self.calibration_samples * self.seq_length

        def peak(parallel: Parallel, micro_batch: int, device: passes.Device) -> memory.Memory:
            batch = passes.batch_of(self, micro_batch, device)
            return memory.passing(models.before, batch, parallel, hooked=True)

        return StageEstimate(
            params=num_params(models.before),
            tokens=tokens,
            work=flops.passed((models.before,), tokens, self.seq_length),
            job=JobEstimate.forward(self, peak, "pipeline", models.where, models.before),
        )
