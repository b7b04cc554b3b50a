"""The logits stage: what the teacher says of every token, stored once for any number of students."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from conf.base import Execution, Precision, Resumes, StageConfig
from conf.estimate import flops, memory
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import Parallel, RunsAs
from conf.shape import num_params


class LogitsConfig(StageConfig):
    """The teacher's top K of every token, so that distillation with `offline: true` never loads the teacher."""

    stage: ClassVar[str] = "logits"
    writes: ClassVar[tuple[str, ...]] = ("logits.json", "train.index.safetensors", "validation.index.safetensors")
    resumes: ClassVar[Resumes] = "metrics"

    top_k: int = Field(
        default=100, ge=1, description="Likeliest tokens stored for each token; the published recipes keep about 100."
    )
    seq_length: int = Field(
        ge=8, description="Tokens the teacher reads at once: its context, in windows as distillation cuts them."
    )
    sequences: int | None = Field(
        default=None,
        ge=1,
        description="Training sequences stored, in the order in which distillation with `seed` reads them; empty: all.",
    )
    validation_sequences: int | None = Field(
        default=None, ge=1, description="Validation sequences stored, from the first; empty: all."
    )
    seed: int = Field(default=1, ge=0, description="Seed of that order: distill.seed.")
    precision: Precision = Field(default="bf16", description="Precision of the forward pass.")
    micro_batch: Annotated[int, Execution()] = Field(
        default=1, ge=1, description="Sequences of one forward pass on one data-parallel rank."
    )
    parallel: RunsAs = Field(
        default=Parallel(), description="Where it runs; context and sequence parallelism are for training."
    )

    @field_validator("parallel")
    @classmethod
    def _whole_sequences(cls, value: Parallel) -> Parallel:
        if value.context != 1 or value.sequence:
            raise ValueError("logits are stored of whole sequences; leave parallel.context and parallel.sequence out")
        return value

    def estimate(self, models: Models) -> StageEstimate | None:
        """Tokens and disk are known where the recipe says how many sequences."""
        teacher, tokens = models.teacher, (self.sequences or 0) * self.seq_length

        def peak(parallel: Parallel, micro_batch: int, device: memory.Device) -> memory.Memory:
            return memory.storing(teacher, memory.batch_of(self, micro_batch, device), parallel)

        return StageEstimate(
            params=num_params(teacher),
            tokens=tokens or None,
            disk=tokens * row_bytes(self.top_k, teacher.vocab_size or 0) or None,
            work=flops.passed((teacher,), tokens, self.seq_length) if tokens else None,
            job=JobEstimate.forward(self, peak, "tensor", models.where, teacher),
        )


def high_planes(vocab_size: int) -> int:
    """Bit planes an id takes beside its low 16 bits."""
    return max(0, (vocab_size - 1).bit_length() - 16)


def row_bytes(top_k: int, vocab_size: int) -> int:
    """Bytes stored of one token: ids, fp16 logits, the probability left out (fp32) and the teacher's loss (fp16)."""
    return 4 * top_k + high_planes(vocab_size) * (-(-top_k // 8)) + 4 + 2
