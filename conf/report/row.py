"""A model of the report: what was measured of it, and its differences to the models it is compared with."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Excerpt, Interval


class SubjectScore(Excerpt):
    """Multiple-choice score on one subject."""

    accuracy: float = Field(description="Share of the questions answered right, 0 to 1.")
    n: int = Field(description="Questions asked.")


class ModelScores(Config):
    """One model and what its sealed scores say. None: not measured."""

    model: str = Field(description="Name of the model in this run.")
    stage: str = Field(description="Stage that made it: teacher, prune, distill, sft or quantize.")
    student: str | None = Field(
        default=None, description="Student of the recipe that it belongs to; None: the teacher."
    )
    format: str | None = Field(default=None, description="Format it is quantized in; None: not quantized.")
    path: str = Field(description="Its Hugging Face model directory.")
    num_params: int = Field(description="Parameters.")
    bytes: int = Field(description="Bytes of its weight files.")
    mmlu: float | None = Field(
        default=None, description="Share of the multiple-choice questions answered right, 0 to 1."
    )
    mmlu_n: int | None = Field(default=None, description="Questions asked.")
    mmlu_ci95: Interval | None = Field(default=None, description="95% interval of the share (Wilson).")
    val_loss: float = Field(description="Loss on the test split, nats per token.")
    perplexity: float = Field(description="exp(val_loss).")
    kl_teacher: float | None = Field(
        default=None, description="KL(teacher || model) on the test split, nats per token."
    )
    agreement_teacher: float | None = Field(
        default=None, description="Share of test tokens whose most likely successor is the teacher's too, 0 to 1."
    )
    tokens_per_second: float | None = Field(
        default=None, description="Tokens generated per second, greedily, batch 1; None also where it is simulated."
    )
    mmlu_stderr: float | None = Field(default=None, description="Standard error of mmlu, a share.")
    mmlu_subjects: dict[str, SubjectScore] | None = Field(default=None, description="The score by subject.")
    mmlu_chance: float | None = Field(default=None, description="Share that guessing would get right, 0 to 1.")
    mmlu_truncated: int | None = Field(
        default=None, description="Prompts that were cut because they are longer than the model's context."
    )
    mmlu_style: str | None = Field(
        default=None, description="What was scored: letters (A to D) or continuation (the choices' own text)."
    )
    shots: int | None = Field(default=None, description="Worked examples in front of each question.")
    val_tokens: int = Field(description="Tokens of the test split that were scored.")
    val_loss_stderr: float | None = Field(
        default=None, description="Standard error of val_loss over test sequences, nats per token."
    )
    latency_seconds: float | None = Field(default=None, description="Median seconds of the timed generation.")
    simulated: bool = Field(
        default=False, description="Whether its quantization was simulated by ModelOpt instead of run by an engine."
    )

    def value(self, metric: str) -> float | None:
        """A measured number by the name of its field; None: not measured."""
        number: float | None = getattr(self, metric)
        return number


class Difference(Config):
    """A model less the one it is compared with."""

    model: str = Field(description="The model it is compared with.")
    val_loss: float = Field(description="Difference of the test losses, nats per token.")
    mmlu: float | None = Field(
        default=None,
        description="Difference of the shares, paired over the questions both answered; None: no such question.",
    )
    mmlu_ci95: Interval | None = Field(default=None, description="95% interval of mmlu (Newcombe, paired).")
    mmlu_p: float | None = Field(
        default=None, description="Exact two-sided McNemar p-value that both are right equally often."
    )
    mmlu_n: int | None = Field(default=None, description="Questions that both answered.")
    bytes_ratio: float = Field(description="Bytes of weights, as a share of the other's.")


class Recovered(Config):
    """Share of what pruning lost that distillation won back. None: pruning lost nothing that is shown."""

    nats: float | None = Field(default=None, description="Of the test loss.")
    points: float | None = Field(default=None, description="Of the multiple-choice score.")


class Row(ModelScores):
    """A row of the report's main table."""

    share_params: float = Field(description="Parameters, as a share of the teacher's (of the first row's without one).")
    baseline: str | None = Field(
        default=None,
        description="What it is there to be compared with: scratch, magnitude or random; None: it is no baseline.",
    )
    against_teacher: Difference = Field(description="Difference to the teacher (to the first row without one).")
    against_student: Difference | None = Field(
        default=None, description="Of a quantized model: difference to its student before quantization."
    )
    recovered: Recovered | None = Field(default=None, description="Of a distilled student: what was won back.")
