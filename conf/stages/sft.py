"""The sft stage: supervised fine-tuning on records, with or without a teacher."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from conf.estimate.numbers import Models, StageEstimate
from conf.parallel import Parallel
from conf.stages.distill import WithDistillationLoss
from conf.stages.early_stopping import WithEarlyStopping
from conf.stages.logits import LogitsConfig
from conf.stages.optimizer import Optimizer
from conf.stages.phases import Phase
from conf.stages.teacher_weights import TeacherWeights


class SftConfig(WithDistillationLoss, WithEarlyStopping):
    """Supervised fine-tuning on responses only; records are packed into sequences and do not attend to each other."""

    stage: ClassVar[str] = "sft"
    writes: ClassVar[tuple[str, ...]] = ("model/config.json", "metrics.jsonl", "packing.json")

    kd_weight: float = Field(
        default=0.0,
        ge=0,
        description=(
            "Loss = cross-entropy + kd_weight x divergence from the teacher, both averaged over the response tokens of"
            " a global batch; 0: no teacher."
        ),
    )
    teacher: bool = Field(
        default=False,
        description=(
            "With kd_weight: fine-tune the teacher on the records first, by the recipe's sft without kd_weight."
        ),
    )
    offline: bool = Field(
        default=False,
        description=(
            "With kd_weight: store the teacher's top_k on the response tokens in a separate stage, which students"
            " share; the teacher is then not loaded during training."
        ),
    )

    teacher_weights: TeacherWeights = "full"

    @model_validator(mode="after")
    def _held(self) -> Self:
        if self.teacher_weights != "full" and not self.kd_weight:
            raise ValueError(
                f"sft.teacher_weights is {self.teacher_weights} but kd_weight is 0, so that no teacher is loaded; set"
                " kd_weight or remove it"
            )
        return self

    @model_validator(mode="after")
    def _stored(self) -> Self:
        if self.offline and not (self.kd_weight and self.top_k):
            raise ValueError("sft.offline needs kd_weight and top_k; set both or remove offline")
        if self.offline and self.spikes and self.spikes.point_every:
            raise ValueError(
                "sft.spikes.action is rewind, which reads more batches than sft.offline has stored logits of;"
                " choose skip or remove offline"
            )
        if self.offline and self.rest_bucket and self.temperature != 1:
            raise ValueError(
                f"sft.temperature is {self.temperature:g} but the probability outside the top K is stored at"
                " temperature 1; choose 1 or remove rest_bucket"
            )
        return self

    @field_validator("phases")
    @classmethod
    def _one_phase(cls, value: tuple[Phase, ...]) -> tuple[Phase, ...]:
        if value:
            raise ValueError("sft.phases is set, but records are packed into rows of one length; remove it")
        return value

    @field_validator("optimizer")
    @classmethod
    def _unbounded(cls, value: Optimizer) -> Optimizer:
        if value.qk_clip:
            raise ValueError(
                f"sft.optimizer.qk_clip is {value.qk_clip:g}, but logits are not looked at in packed records; remove it"
            )
        return value

    @field_validator("parallel")
    @classmethod
    def _whole_rows(cls, value: Parallel) -> Parallel:
        if value.context != 1:
            raise ValueError(
                f"sft.parallel.context is {value.context} but packed records cannot be split over context-parallel"
                " ranks; choose 1"
            )
        return value

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.evaluate_every is not None:
            raise ValueError(
                f"sft.evaluate_every is {self.evaluate_every} but fine-tuning runs no evaluations during training;"
                " remove it"
            )
        if (self.keep == "best" or self.patience) and self.best_by == "val_kl" and (self.offline or not self.kd_weight):
            raise ValueError("sft.best_by is val_kl, which needs the teacher loaded during training; choose val_loss")
        return self

    @property
    def stored(self) -> LogitsConfig | None:
        """Config of the stage that stores the teacher's logits on the records; None if the teacher is loaded during
        training."""
        if not self.offline or self.top_k is None:
            return None
        names = ("top_k", "seq_length", "seed", "precision", "teacher_weights", "micro_batch")
        shared = {name: getattr(self, name) for name in names}
        return LogitsConfig(
            **shared, parallel=self.parallel.model_copy(update={"sequence": False, "distributed_optimizer": False})
        )

    def estimate(self, models: Models) -> StageEstimate | None:
        teacher = models.teacher if self.kd_weight and not self.offline else None
        return self.training_estimate(models.after, models.where, teacher)
