"""What happens while a student learns: evaluations of exported checkpoints, which weights are kept, when it is
enough."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from conf.stages.evaluate import EvaluateConfig
from conf.stages.training import Training

BestBy = Literal["val_kl", "val_divergence", "val_loss", "mmlu"]


class WithEarlyStopping(Training):
    """Training that looks at its student on the way. A validation comes every `validate_every` steps, before the first
    and after the last step; all of it continues exactly where a killed job had saved it."""

    keep: Literal["last", "best"] = Field(
        default="last",
        description="Which weights become the student: those after the last step, or the best ones seen by best_by.",
    )
    best_by: BestBy = Field(
        default="val_kl",
        description=(
            "What best means, for keep and patience: the lowest val_kl, val_divergence or val_loss of the validations,"
            " or the highest mmlu of the evaluations, which are then the same questions as the report's and flatter the"
            " student kept."
        ),
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Stop after so many validations (with best_by mmlu: evaluations) without an improvement; empty: never. The"
            " learning rate is then still above min_lr, as the schedule is made for all steps."
        ),
    )
    min_delta: float = Field(
        default=0.0, ge=0, description="With patience: an improvement of no more than this does not count as one."
    )
    evaluate_every: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Steps between evaluations of the student as an exported Hugging Face model, by what the evaluate stage"
            " measures; also before the first and after the last step. Empty: none on the way."
        ),
    )
    evaluate_limit: int | None = Field(
        default=None,
        ge=1,
        description="Questions a subject at most in those; empty: as many as the evaluate stage asks.",
    )
    evaluation: EvaluateConfig | None = Field(
        default=None, description="What those measure; empty: what the recipe's evaluate does."
    )

    @model_validator(mode="after")
    def _watches_something(self) -> Self:
        if self.best_by == "mmlu" and self.evaluate_every is None:
            raise ValueError(
                "best_by is mmlu, but no evaluation is made on the way; give evaluate_every or choose val_kl or"
                " val_loss"
            )
        if self.evaluate_every is not None and self.evaluate_every > max(self.steps, 1):
            raise ValueError(
                f"evaluate_every is {self.evaluate_every}, more than the {self.steps} steps; choose fewer or leave it"
                " empty"
            )
        if self.min_delta and self.patience is None:
            raise ValueError(
                f"min_delta is {self.min_delta:g}, but without patience nothing waits for an improvement; give patience"
            )
        if self.evaluate_every is None and (self.evaluate_limit or self.evaluation):
            raise ValueError(
                "evaluate_limit and evaluation say what evaluate_every measures, which is empty; give it or leave"
                " them out"
            )
        if self.best_by == "mmlu" and self.evaluation and self.evaluation.mmlu is None:
            raise ValueError("best_by is mmlu, which evaluation.mmlu: null does not measure; choose val_kl or val_loss")
        return self

    def measured_by(self, evaluate: EvaluateConfig) -> Self:
        """The same with its evaluations spelled out, as the job needs them: the recipe's where it has none of its
        own."""
        if self.evaluate_every is None:
            return self
        config = self.evaluation or evaluate
        mmlu = config.mmlu and (
            config.mmlu.model_copy(update={"limit": self.evaluate_limit}) if self.evaluate_limit else config.mmlu
        )
        return self.model_copy(update={"evaluation": config.model_copy(update={"mmlu": mmlu, "new_tokens": 0})})
