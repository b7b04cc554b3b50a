"""What teacher training and distillation share."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import Execution, Precision, StageConfig
from conf.parallel import Parallel, RunsAs


class Training(StageConfig):
    """What teacher training and distillation share: batches, schedule, optimizer (Adam), validation, checkpoints."""

    steps: int = Field(ge=0, description="Optimizer steps.")
    seq_length: int = Field(ge=8, description="Tokens of one sequence.")
    global_batch: int = Field(ge=1, description="Sequences of one optimizer step.")
    micro_batch: Annotated[int, Execution()] = Field(
        ge=1, description="Sequences of one forward pass on one data-parallel rank."
    )
    lr: float = Field(gt=0, description="Peak learning rate.")
    min_lr: float = Field(ge=0, description="Learning rate at the end of the cosine.")
    warmup_steps: int = Field(ge=0, description="Steps of linear warm-up.")
    weight_decay: float = Field(
        default=0.1, ge=0, description="Decoupled weight decay; not applied to norms and biases."
    )
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="Adam's first moment.")
    adam_beta2: float = Field(default=0.95, ge=0, lt=1, description="Adam's second moment.")
    clip_grad: float = Field(default=1.0, gt=0, description="Gradients are clipped to this global norm.")
    precision: Precision = Field(default="bf16", description="bf16 keeps fp32 master weights in the optimizer.")
    seed: int = Field(default=1, ge=0, description="Seed of initial weights and of the data order.")
    validate_every: int = Field(
        default=50, ge=1, description="Steps between validations; the first and last step are validated too."
    )
    validation_batches: int = Field(default=8, ge=1, description="Global batches of one validation.")
    checkpoint_every: Annotated[int, Execution()] = Field(
        default=50, ge=1, description="Steps between checkpoints to resume from."
    )
    checkpoints_kept: Annotated[int, Execution()] = Field(
        default=2,
        ge=1,
        description="Newest checkpoints that stay while the stage runs; the second is for when the newest is damaged.",
    )
    parallel: RunsAs = Field(default=Parallel(), description="Where it runs.")

    @model_validator(mode="after")
    def _schedule(self) -> Self:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr:g} is above lr {self.lr:g}; choose a smaller min_lr")
        if self.steps and self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} leaves nothing of steps {self.steps}; choose fewer warm-up steps"
            )
        per_pass = self.micro_batch * self.parallel.data
        if self.global_batch % per_pass:
            raise ValueError(
                f"global_batch {self.global_batch} is not a multiple of micro_batch {self.micro_batch} x data-parallel"
                f" size {self.parallel.data}; choose a multiple of {per_pass}"
            )
        return self

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        return self.steps * self.global_batch * self.seq_length
