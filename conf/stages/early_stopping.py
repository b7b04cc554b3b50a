"""Checkpoint selection and early stopping: evaluations during training, best weights, patience."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conf.base import Later
from conf.benchmarks import BENCHMARKS, BenchmarkName
from conf.stages.evaluate import EvaluateConfig
from conf.stages.training import Training
from conf.stages.watched import WatchedBenchmark

BestBy = Literal["val_kl", "val_divergence", "val_loss", "mmlu", BenchmarkName]
HIGHER: tuple[str, ...] = ("mmlu", *BENCHMARKS)
"""Metrics of evaluations, of which higher is better; all others are of validations."""


class WithEarlyStopping(Training):
    """Training with checkpoint selection and early stopping. Validates every `validate_every` steps, before the first
    and after the last step; a killed job resumes with the same state."""

    keep: Literal["last", "best"] = Field(
        default="last",
        description="Weights to keep as the student: those after the last step, or the best by best_by.",
    )
    best_by: BestBy = Field(
        default="val_kl",
        description=(
            "Metric for keep and patience: the lowest val_kl, val_divergence or val_loss of the validations, or the"
            " highest mmlu or benchmark of the evaluations. That selects on the report's own questions, so the reported"
            " score is optimistic."
        ),
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Stop after this many validations (with best_by mmlu or a benchmark: evaluations) without improvement;"
            " empty: never. The learning rate then ends above min_lr, because the schedule spans all steps. With"
            " phases, only the last one is judged."
        ),
    )
    min_delta: float = Field(default=0.0, ge=0, description="With patience: smaller improvements do not count.")
    evaluate_every: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Steps between evaluations of the student, exported to Hugging Face format and measured as in the evaluate"
            " stage; also before the first and after the last step. Empty: no evaluations during training."
        ),
    )
    evaluate_limit: int | None = Field(
        default=None,
        ge=1,
        description="Maximum questions per subject in these evaluations; empty: as in the evaluate stage.",
    )
    evaluation: EvaluateConfig | None = Field(
        default=None, description="Settings of these evaluations; empty: the recipe's evaluate."
    )
    evaluate_benchmarks: Annotated[dict[BenchmarkName, WatchedBenchmark], Later()] = Field(
        default={},
        description=(
            "Benchmarks of evaluate.benchmarks that these evaluations ask too, as in {arc_easy: {}, gsm8k: {limit: 50}}"
        ),
    )

    @model_validator(mode="after")
    def _watches_something(self) -> Self:
        if self.best_by in HIGHER and self.evaluate_every is None:
            raise ValueError(
                f"best_by is {self.best_by} but evaluate_every is empty; set evaluate_every, or choose val_kl or"
                " val_loss"
            )
        if self.evaluate_every is not None and self.evaluate_every > max(self.steps, 1):
            raise ValueError(
                f"evaluate_every is {self.evaluate_every}, more than the {self.steps} steps; choose at most"
                f" {self.steps} or leave it empty"
            )
        if self.min_delta and self.patience is None:
            raise ValueError(f"min_delta is {self.min_delta:g} but patience is empty; set patience or remove min_delta")
        if self.keep == "best" and self.export == "average":
            raise ValueError("keep is best but export is average, and only one can become the model; choose one")
        if self.patience is not None and self.average and self.average.kind == "mean":
            raise ValueError(
                f"average.kind is mean but patience is {self.patience}, so the last steps are not known beforehand;"
                " choose kind ema or remove patience"
            )
        if self.evaluate_every is None and (self.evaluate_limit or self.evaluation):
            raise ValueError("evaluate_limit and evaluation need evaluate_every, which is empty; set it or remove them")
        if self.evaluate_every is None and self.evaluate_benchmarks:
            raise ValueError("evaluate_benchmarks needs evaluate_every, which is empty; set it or remove one")
        if self.best_by == "mmlu" and self.evaluation and self.evaluation.mmlu is None:
            raise ValueError("best_by is mmlu but evaluation.mmlu is null; choose val_kl or val_loss")
        return self

    @property
    def judged_after(self) -> int:
        """The step after which patience begins to count: that before the last phase's, whose weights are another
        phase's; -1 without phases, where the weights before the first step count too."""
        return self.spans[-1].start if len(self.spans) > 1 else -1

    def measured_by(self, evaluate: EvaluateConfig) -> Self:
        """A copy with `evaluation` filled in for the job: its own, else the recipe's `evaluate`."""
        if self.evaluate_every is None:
            return self
        config = self.evaluation or evaluate
        mmlu = config.mmlu and (
            config.mmlu.model_copy(update={"limit": self.evaluate_limit}) if self.evaluate_limit else config.mmlu
        )
        # a study's split must not change what is trained
        settings = {"mmlu": mmlu, "new_tokens": 0, "split": "test", "long_text": None}
        benchmarks = {
            name: asked.filled(evaluate.benchmarks[name]) if name in evaluate.benchmarks else asked
            for name, asked in self.evaluate_benchmarks.items()
        }
        # The benchmarks' own settings are in the copy's evaluate_benchmarks, as far as the job needs them.
        measured = config.measured.model_copy(update=settings | {"benchmarks": {}})
        return self.model_copy(update={"evaluation": measured, "evaluate_benchmarks": benchmarks})
