"""Scores on the held-out responses of the records, and the effect of a teacher during fine-tuning."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Excerpt, Interval


class ResponseScores(Excerpt):
    """Scores of one model on the held-out records."""

    model: str = Field(description="Model name.")
    stage: str = Field(description="Stage that built it.")
    records: int = Field(description="Records scored.")
    tokens: int = Field(description="Response tokens in them.")
    loss: float = Field(description="Loss on the response tokens, nats per token.")
    perplexity: float = Field(description="exp(loss).")
    accuracy: float = Field(description="Share of response tokens that the model ranks first, 0 to 1.")
    exact: float = Field(description="Share of responses that greedy decoding reproduces exactly, 0 to 1.")


class ResponsePair(Config):
    """Two students whose fine-tuning differs only in the weight of the teacher: `higher_kd` minus `lower_kd`, paired
    over the same responses."""

    lower_kd: str = Field(description="Student with the lower kd_weight.")
    higher_kd: str = Field(description="Student with the higher kd_weight.")
    kd_weights: tuple[float, float] = Field(description="kd_weight of `lower_kd`, then of `higher_kd`; 0 to 1.")
    loss: float = Field(description="Mean over responses of the difference in loss, nats per token.")
    loss_ci95: Interval | None = Field(
        description="Its 95% interval (Student's t over responses); null: there is only one response."
    )
    exact: float = Field(description="Difference in the share of responses reproduced.")
    exact_ci95: Interval = Field(description="Its 95% interval (Newcombe, paired).")
    exact_p: float = Field(description="Exact two-sided McNemar p-value of no difference in `exact`.")
    n: int = Field(description="Number of responses.")


class Packing(Excerpt):
    """Packing of the training records into sequences (packing.json)."""

    records: int = Field(description="Training records.")
    sequences: int = Field(description="Sequences after packing.")
    efficiency: float = Field(description="Share of the sequences' tokens that belong to records, 0 to 1.")
    passes: float = Field(description="Passes over the sequences.")


class Generated(Excerpt):
    """The answers that the teacher generated (generate.json)."""

    prompts: int = Field(description="Number of prompts.")
    unusable_prompts: dict[str, int] = Field(description="Prompts skipped, by reason.")
    answers: int = Field(description="Number of answers.")
    kept: int = Field(description="Number of answers that became records.")
    rejected: dict[str, int] = Field(description="Answers rejected, by reason.")
    seconds: float | None = Field(default=None, description="Duration of the last attempt, seconds.")
    tokens: int | None = Field(default=None, description="Tokens generated in the last attempt.")


class Responses(Config):
    """Everything about the records of a recipe."""

    packing: Packing | None = Field(description="null: no student was fine-tuned.")
    generated: Generated | None = Field(description="null: no answers were generated.")
    rows: tuple[ResponseScores, ...] = Field(description="Scores by model.")
    pairs: tuple[ResponsePair, ...] = Field(description="Students that differ only in kd_weight.")
