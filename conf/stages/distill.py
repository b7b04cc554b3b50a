"""The distill stage: training a student on its teacher's outputs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution
from conf.estimate.numbers import Models, StageEstimate
from conf.stages.documents import WithDocuments
from conf.stages.early_stopping import WithEarlyStopping
from conf.stages.mtp import WithHeads
from conf.stages.teacher_weights import TeacherWeights
from conf.stages.training import Training

DistillLoss = Literal["forward_kl", "reverse_kl", "jensen_shannon"]


class Intermediate(Config):
    """A loss between the outputs of a student layer and a teacher layer, added to the objective."""

    student_layer: int = Field(ge=1, description="Layer of the student, numbered from 1.")
    teacher_layer: int = Field(ge=1, description="Layer of the teacher, numbered from 1.")
    loss: Literal["cosine", "mse"] = Field(
        default="cosine",
        description=(
            "cosine: 1 - cosine similarity; mse: mean squared error. Different widths are mapped by a learned"
            " projection."
        ),
    )


class WithDistillationLoss(Training):
    """Training with a divergence between the student's and a teacher's logits."""

    loss: DistillLoss = Field(
        default="forward_kl",
        description=(
            "forward_kl: KL(teacher || student), mode-covering; reverse_kl: KL(student || teacher), mode-seeking;"
            " jensen_shannon: mean of the KL of each from their mixture."
        ),
    )
    temperature: float = Field(default=1.0, gt=0, description="Softmax temperature of teacher and student.")
    scale_by_t2: bool = Field(
        default=False, description="Multiply the divergence by temperature squared, as Hinton et al. (2015) do."
    )
    top_k: int | None = Field(
        default=None,
        ge=1,
        description="Compare only the teacher's K most likely tokens, gathered before the softmax; empty: all.",
    )
    rest_bucket: bool = Field(
        default=False,
        description=(
            "With top_k: softmax over the full vocabulary, with all tokens outside the top K as one extra bucket."
        ),
    )

    @model_validator(mode="after")
    def _rest_of_what(self) -> Self:
        if self.rest_bucket and self.top_k is None:
            raise ValueError("rest_bucket is true but top_k is empty; set top_k or remove rest_bucket")
        return self


class DistillConfig(WithDistillationLoss, WithEarlyStopping, WithHeads, WithDocuments):
    """Distillation: divergence of the logits, losses between chosen layers, and a share of cross-entropy on the
    tokens."""

    stage: ClassVar[str] = "distill"
    writes: ClassVar[tuple[str, ...]] = ("model/config.json", "metrics.jsonl", "kept.json")
    shortcuts: ClassVar[tuple[str, ...]] = ("trunk",)

    offline: bool = Field(
        default=False,
        description="Use the logits stored by the recipe's logits stage instead of loading the teacher.",
    )
    teacher_weights: TeacherWeights = "full"
    intermediate: tuple[Intermediate, ...] = Field(
        default=(), description="Pairs of layers whose outputs are compared; their losses are averaged."
    )
    intermediate_weight: Annotated[float, Field(ge=0)] | Literal["balanced"] = Field(
        default=1.0,
        description=(
            "Distillation loss = divergence + intermediate_weight x intermediate loss; balanced: scale each batch's"
            " intermediate loss to its divergence, as ModelOpt does."
        ),
    )
    ce_share: Annotated[float, Field(ge=0, le=1)] | Literal["balanced"] = Field(
        default=0.0,
        description=(
            "Loss = (1 - ce_share) x distillation loss + ce_share x cross-entropy; balanced: cross-entropy +"
            " distillation loss scaled to each batch's cross-entropy, as ModelOpt does."
        ),
    )

    begun: Annotated[int, Execution()] = Field(
        default=0,
        ge=0,
        description="Steps that a trunk has made before; filled in where students share one (students.NAME.branches).",
    )

    @property
    def own_steps(self) -> int:
        return self.steps - self.begun

    @model_validator(mode="after")
    def _goes_on(self) -> Self:
        if self.begun and self.begun >= self.steps:
            raise ValueError(f"begun is {self.begun} but steps is {self.steps}; leave begun out")
        return self

    @model_validator(mode="after")
    def _held(self) -> Self:
        if self.teacher_weights == "full":
            return self
        if self.offline:
            raise ValueError(
                f"distill.teacher_weights is {self.teacher_weights} but offline is true, so that no teacher is loaded;"
                f" remove it, and set logits.teacher_weights={self.teacher_weights} for the stage that runs the teacher"
            )
        if not self.steps:
            raise ValueError(
                f"distill.teacher_weights is {self.teacher_weights} but steps is 0, so that no teacher is loaded;"
                " remove it"
            )
        return self

    @model_validator(mode="after")
    def _stored(self) -> Self:
        if self.offline and self.top_k is None:
            raise ValueError(
                "distill.offline is true but top_k is empty, and only the top K logits are stored; set top_k to at"
                " most logits.top_k"
            )
        if self.offline and self.spikes and self.spikes.point_every:
            raise ValueError(
                "distill.spikes.action is rewind, which reads more batches than distill.offline has stored logits of;"
                " choose skip or remove offline"
            )
        if self.offline and self.rest_bucket and self.temperature != 1:
            raise ValueError(
                f"distill.temperature is {self.temperature:g} but the probability outside the top K is stored at"
                " temperature 1; choose 1 or remove rest_bucket"
            )
        if self.offline and self.intermediate:
            raise ValueError(
                "distill.intermediate needs the teacher's layer outputs, which offline does not store; remove one of"
                " the two"
            )
        if self.offline and self.best_by == "val_kl" and (self.keep == "best" or self.patience):
            raise ValueError(
                "distill.best_by is val_kl, which needs the teacher's full vocabulary; choose val_divergence with"
                " offline"
            )
        return self

    def estimate(self, models: Models) -> StageEstimate | None:
        return self.training_estimate(models.after, models.where, None if self.offline else models.teacher)
