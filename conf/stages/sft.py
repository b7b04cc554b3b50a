"""The sft stage: how a student is fine-tuned on records, alone or with a teacher beside it."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from conf.estimate.numbers import Models, StageEstimate
from conf.parallel import Parallel
from conf.stages.distill import WithDistillationLoss
from conf.stages.early_stopping import WithEarlyStopping
from conf.stages.logits import LogitsConfig


class SftConfig(WithDistillationLoss, WithEarlyStopping):
    """Supervised fine-tuning on responses only; records are packed into sequences without seeing each other."""

    stage: ClassVar[str] = "sft"
    writes: ClassVar[tuple[str, ...]] = ("model/config.json", "metrics.jsonl", "packing.json")

    kd_weight: float = Field(
        default=0.0,
        ge=0,
        description=(
            "Loss = cross-entropy + kd_weight x divergence from the teacher, both means over the response tokens of a"
            " global batch; 0: plain fine-tuning, without a teacher."
        ),
    )
    teacher: bool = Field(
        default=False,
        description=(
            "With kd_weight: the teacher is fine-tuned on the records first, by the recipe's sft without kd_weight;"
            " else it teaches as it is."
        ),
    )
    offline: bool = Field(
        default=False,
        description=(
            "With kd_weight: store the teacher's top_k on the response tokens first, by a stage of its own that"
            " students share; the teacher is then not loaded beside them."
        ),
    )

    @model_validator(mode="after")
    def _stored(self) -> Self:
        if self.offline and not (self.kd_weight and self.top_k):
            raise ValueError("sft.offline stores the teacher's top_k for kd_weight; give both, or leave offline out")
        if self.offline and self.rest_bucket and self.temperature != 1:
            raise ValueError(
                f"sft.temperature is {self.temperature:g}, but the probability of the rest is stored at temperature 1;"
                " choose 1 or leave rest_bucket out"
            )
        return self

    @field_validator("parallel")
    @classmethod
    def _whole_rows(cls, value: Parallel) -> Parallel:
        if value.context != 1:
            raise ValueError(
                f"sft.parallel.context is {value.context}, but packed records are not spread over context-parallel"
                " ranks; choose 1"
            )
        return value

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.evaluate_every is not None:
            raise ValueError("sft.evaluate_every: fine-tuning makes no evaluations on the way; leave it empty")
        if (self.keep == "best" or self.patience) and self.best_by == "val_kl" and (self.offline or not self.kd_weight):
            raise ValueError("sft.best_by is val_kl, which needs a teacher beside the student; choose val_loss")
        return self

    @property
    def stored(self) -> LogitsConfig | None:
        """What the stage stores that runs the teacher over the records; None where it runs beside the student."""
        if not self.offline or self.top_k is None:
            return None
        shared = {name: getattr(self, name) for name in ("top_k", "seq_length", "seed", "precision", "micro_batch")}
        return LogitsConfig(**shared, parallel=self.parallel.model_copy(update={"sequence": False}))

    def estimate(self, models: Models) -> StageEstimate | None:
        teacher = models.teacher if self.kd_weight and not self.offline else None
        return self.training_estimate(models.after, models.where, teacher)
