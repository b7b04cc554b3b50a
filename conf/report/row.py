"""A row of the report: one model's measurements, and its differences from the models it is compared with."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Excerpt, Interval
from conf.report.benchmarks import Answerer


class SubjectScore(Excerpt):
    """Multiple-choice score on one subject."""

    accuracy: float = Field(description="Share of the questions answered correctly, 0 to 1.")
    n: int = Field(description="Number of questions.")


class ModelScores(Config):
    """One model and its sealed scores; null: not measured."""

    model: str = Field(description="Name of the model in this run.")
    stage: str = Field(description="Stage that built it: teacher, prune, distill, sft or quantize.")
    student: str | None = Field(
        default=None, description="Student of the recipe that it belongs to; null: it is the teacher."
    )
    format: str | None = Field(default=None, description="Quantization format; null: not quantized.")
    path: str = Field(description="Its Hugging Face model directory.")
    num_params: int = Field(description="Number of parameters.")
    bytes: int = Field(description="Size of its weight files, bytes.")
    mmlu: float | None = Field(default=None, description="Share of the questions answered correctly, 0 to 1.")
    mmlu_n: int | None = Field(default=None, description="Number of questions.")
    mmlu_ci95: Interval | None = Field(default=None, description="95% interval of the share (Wilson).")
    val_loss: float = Field(description="Loss on the test split, nats per token.")
    perplexity: float = Field(description="exp(val_loss).")
    kl_teacher: float | None = Field(
        default=None, description="KL(teacher || model) on the test split, nats per token."
    )
    agreement_teacher: float | None = Field(
        default=None, description="Share of test tokens where model and teacher rank the same next token first, 0 to 1."
    )
    tokens_per_second: float | None = Field(
        default=None,
        description=(
            "Greedy generation speed at batch size 1, tokens per second; null also if quantization is simulated."
        ),
    )
    mmlu_stderr: float | None = Field(default=None, description="Standard error of mmlu, a share.")
    mmlu_subjects: dict[str, SubjectScore] | None = Field(default=None, description="The score by subject.")
    mmlu_chance: float | None = Field(default=None, description="Share that guessing would answer correctly, 0 to 1.")
    mmlu_truncated: int | None = Field(default=None, description="Prompts truncated to the model's context length.")
    mmlu_style: str | None = Field(
        default=None, description="What is scored: letters (A to D) or continuation (the text of each choice)."
    )
    mmlu_answered_by: Answerer | None = Field(
        default=None, description="Engine that answered the questions; null: imbik itself."
    )
    shots: int | None = Field(default=None, description="Few-shot examples per question.")
    val_tokens: int = Field(description="Number of test tokens scored.")
    val_loss_stderr: float | None = Field(
        default=None, description="Standard error of val_loss over test sequences, nats per token."
    )
    latency_seconds: float | None = Field(default=None, description="Median duration of the timed generation, seconds.")
    simulated: bool = Field(
        default=False, description="Whether ModelOpt simulated its quantization instead of an engine running it."
    )

    def value(self, metric: str) -> float | None:
        """The measurement in the field named `metric`; None: not measured."""
        number: float | None = getattr(self, metric)
        return number


class Difference(Config):
    """A model minus the one it is compared with."""

    model: str = Field(description="Model it is compared with.")
    val_loss: float = Field(description="Difference in test loss, nats per token.")
    val_loss_ci95: Interval | None = Field(
        default=None,
        description="95% interval of val_loss (Student's t), paired over the test sequences; null: there is none.",
    )
    mmlu: float | None = Field(
        default=None,
        description="Difference in score (a share), paired over the questions both answered; null: there is none.",
    )
    mmlu_ci95: Interval | None = Field(default=None, description="95% interval of mmlu (Newcombe, paired).")
    mmlu_p: float | None = Field(default=None, description="Exact two-sided McNemar p-value of no difference in score.")
    mmlu_n: int | None = Field(default=None, description="Number of questions that both answered.")
    bytes_ratio: float = Field(description="Size of the weights relative to the other model's.")


class Recovered(Config):
    """Share of the loss from pruning that distillation recovered; null: pruning has no significant loss."""

    nats: float | None = Field(default=None, description="Share of the increase in test loss.")
    points: float | None = Field(default=None, description="Share of the drop in multiple-choice score.")


class Row(ModelScores):
    """A row of the report's main table."""

    share_params: float = Field(
        description="Parameters relative to the first row, which is the teacher if there is one."
    )
    baseline: str | None = Field(
        default=None,
        description="Kind of baseline: scratch, magnitude or random; null: not a baseline.",
    )
    taught: bool | None = Field(
        default=None,
        description=(
            "Whether a teacher or records taught it, or the model that it was quantized from: false, it was pruned and"
            " no more; null: it was never pruned."
        ),
    )
    against_teacher: Difference = Field(
        description="Difference from the first row, which is the teacher if there is one."
    )
    against_student: Difference | None = Field(
        default=None, description="For a quantized model: difference from the unquantized student."
    )
    recovered: Recovered | None = Field(
        default=None, description="For a distilled student: share of the loss recovered."
    )
