"""The distill stage: how a student is taught."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config
from conf.estimate.numbers import Models, StageEstimate
from conf.stages.early_stopping import WithEarlyStopping
from conf.stages.training import Training

DistillLoss = Literal["forward_kl", "reverse_kl", "jensen_shannon"]


class Intermediate(Config):
    """A loss between the outputs of a student's layer and a teacher's, added to what is minimised."""

    student_layer: int = Field(ge=1, description="Layer of the student, numbered from 1.")
    teacher_layer: int = Field(ge=1, description="Layer of the teacher, numbered from 1.")
    loss: Literal["cosine", "mse"] = Field(
        default="cosine",
        description=(
            "cosine: 1 - cosine of the two; mse: mean squared error. Widths that differ are joined by a learned map."
        ),
    )


class WithDistillationLoss(Training):
    """Training in which the student's logits are compared with a teacher's."""

    loss: DistillLoss = Field(
        default="forward_kl",
        description=(
            "forward_kl: KL(teacher || student), covers all the teacher says; reverse_kl: KL(student || teacher), keeps"
            " to what the teacher finds likely; jensen_shannon: half of each to their mean."
        ),
    )
    temperature: float = Field(default=1.0, gt=0, description="Softmax temperature of both sides.")
    scale_by_t2: bool = Field(
        default=False, description="Multiply the divergence by temperature squared, as Hinton et al. (2015) do."
    )
    top_k: int | None = Field(
        default=None,
        ge=1,
        description="Compare only the teacher's K likeliest tokens, gathered before the softmax; empty: all.",
    )
    rest_bucket: bool = Field(
        default=False,
        description=(
            "With top_k: probabilities over the whole vocabulary, all tokens outside the top K as one more bucket."
        ),
    )

    @model_validator(mode="after")
    def _rest_of_what(self) -> Self:
        if self.rest_bucket and self.top_k is None:
            raise ValueError(
                "rest_bucket is the probability outside top_k, which is empty; give top_k or leave rest_bucket out"
            )
        return self


class DistillConfig(WithDistillationLoss, WithEarlyStopping):
    """Teacher to student: a divergence of their logits, losses between chosen layers, and a share of cross-entropy on
    the tokens."""

    stage: ClassVar[str] = "distill"
    writes: ClassVar[tuple[str, ...]] = ("model/config.json", "metrics.jsonl", "kept.json")

    offline: bool = Field(
        default=False,
        description="Take the teacher's top_k from the recipe's stored logits; the teacher itself is not loaded.",
    )
    intermediate: tuple[Intermediate, ...] = Field(
        default=(), description="Pairs of layers whose outputs are compared; their mean counts."
    )
    intermediate_weight: Annotated[float, Field(ge=0)] | Literal["balanced"] = Field(
        default=1.0,
        description=(
            "taught = divergence + intermediate_weight x intermediate; balanced: each batch's intermediate loss is"
            " scaled to its divergence, as ModelOpt does."
        ),
    )
    ce_share: Annotated[float, Field(ge=0, le=1)] | Literal["balanced"] = Field(
        default=0.0,
        description=(
            "Loss = (1 - ce_share) x taught + ce_share x cross-entropy; balanced: cross-entropy + taught scaled to each"
            " batch's cross-entropy, as ModelOpt does."
        ),
    )

    @model_validator(mode="after")
    def _stored(self) -> Self:
        if self.offline and self.top_k is None:
            raise ValueError(
                "distill.offline compares stored logits, which are only the top K; give top_k, at most logits.top_k"
            )
        if self.offline and self.rest_bucket and self.temperature != 1:
            raise ValueError(
                f"distill.temperature is {self.temperature:g}, but the probability of the rest is stored at temperature"
                " 1; choose 1 or leave rest_bucket out"
            )
        if self.offline and self.intermediate:
            raise ValueError(
                "distill.intermediate compares layers of the teacher, of which offline stores nothing; leave one of"
                " them out"
            )
        if self.offline and self.best_by == "val_kl" and (self.keep == "best" or self.patience):
            raise ValueError(
                "distill.best_by is val_kl, which needs the teacher's whole vocabulary; with offline choose"
                " val_divergence"
            )
        return self

    def estimate(self, models: Models) -> StageEstimate | None:
        return self.training_estimate(models.after, models.where, None if self.offline else models.teacher)
