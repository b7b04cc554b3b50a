"""The logits stage: the teacher's logits for every token, stored once for all students."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from conf.base import Execution, Later, Precision, Resumes, Seed, StageConfig
from conf.estimate import flops, memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import Parallel, RunsAs
from conf.shape import num_params
from conf.stages.teacher_weights import TeacherWeights


class LogitsConfig(StageConfig):
    """The teacher's top-K logits for every token, for distillation with `offline: true`, which does not load the
    teacher."""

    stage: ClassVar[str] = "logits"
    writes: ClassVar[tuple[str, ...]] = ("logits.json", "train.index.safetensors", "validation.index.safetensors")
    resumes: ClassVar[Resumes] = "metrics"

    top_k: int = Field(
        default=100, ge=1, description="Most likely tokens to store per position; published recipes use about 100."
    )
    seq_length: int = Field(ge=8, description="Tokens per sequence: the teacher's context, cut as in distillation.")
    sequences: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Training sequences to store, in the order in which distillation with `seed` reads them; empty: all."
        ),
    )
    validation_sequences: int | None = Field(
        default=None, ge=1, description="Validation sequences to store, from the first; empty: all."
    )
    seed: Seed = Field(default=1, description="Seed of the data order; must equal distill.seed if sequences is set.")
    document_mask: Annotated[bool, Later()] = Field(
        default=False,
        description="Keep documents apart inside a sequence; must equal distill.document_mask of all offline students.",
    )
    precision: Precision = Field(default="bf16", description="Precision of the forward pass.")
    teacher_weights: TeacherWeights = "full"
    micro_batch: Annotated[int, Execution()] = Field(
        default=1, ge=1, description="Sequences per forward pass on one data-parallel rank."
    )
    parallel: RunsAs = Field(
        default=Parallel(), description="Parallel layout; context and sequence parallelism are for training only."
    )

    @field_validator("parallel")
    @classmethod
    def _whole_sequences(cls, value: Parallel) -> Parallel:
        if value.context != 1 or value.sequence:
            raise ValueError(
                "logits.parallel sets context or sequence, but logits are stored for whole sequences; remove both"
            )
        if value.expert != 1:
            raise ValueError(
                f"logits.parallel.expert is {value.expert}, but each data-parallel rank stores other sequences by"
                " itself; remove it, and raise tensor or pipeline to spread the experts"
            )
        if value.distributed_optimizer:
            raise ValueError("logits.parallel sets distributed_optimizer, but nothing is trained; remove it")
        return value

    def estimate(self, models: Models) -> StageEstimate | None:
        """Tokens and disk are known only if `sequences` is set."""
        teacher, tokens = models.teacher, (self.sequences or 0) * self.seq_length

        def peak(parallel: Parallel, micro_batch: int, device: passes.Device) -> memory.Memory:
            batch = passes.batch_of(self, micro_batch, device)
            return memory.storing(teacher, batch, parallel, fp8=self.teacher_weights == "fp8")

        return StageEstimate(
            params=num_params(teacher),
            tokens=tokens or None,
            disk=tokens * row_bytes(self.top_k, teacher.vocab_size or 0) or None,
            work=flops.passed((teacher,), tokens, self.seq_length) if tokens else None,
            job=JobEstimate.forward(self, peak, "tensor", models.where, teacher),
        )


def high_planes(vocab_size: int) -> int:
    """Number of bit planes for a token id above its low 16 bits."""
    return max(0, (vocab_size - 1).bit_length() - 16)


def row_bytes(top_k: int, vocab_size: int) -> int:
    """Bytes stored per token: ids, fp16 logits, the probability outside the top K (fp32) and the teacher's loss
    (fp16)."""
    return 4 * top_k + high_planes(vocab_size) * (-(-top_k // 8)) + 4 + 2
