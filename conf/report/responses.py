"""How well each model answers the held-out prompts of the records, and what a teacher added to fine-tuning."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.base import Excerpt, Interval


class ResponseScores(Excerpt):
    """One model on the held-out records."""

    model: str = Field(description="The model.")
    stage: str = Field(description="Stage that made it.")
    records: int = Field(description="Records scored, each by itself.")
    tokens: int = Field(description="Response tokens in them.")
    loss: float = Field(description="Loss on the response tokens, nats per token.")
    perplexity: float = Field(description="exp(loss).")
    accuracy: float = Field(description="Share of response tokens that are the model's most likely ones, 0 to 1.")
    exact: float = Field(description="Share of responses of which every token is the most likely one, 0 to 1.")


class ResponsePair(Config):
    """Two students that differ in the teacher's part in their fine-tuning alone: `beside` less `without`, paired over
    the same responses."""

    without: str = Field(description="Student with the smaller weight of the teacher.")
    beside: str = Field(description="Student with the larger weight of the teacher.")
    kd_weights: tuple[float, ...] = Field(description="Weights of the teacher: of `without`, then of `beside`; 0 to 1.")
    loss: float = Field(description="Mean difference of the responses' losses, nats per token.")
    loss_ci95: Interval | None = Field(
        description="Its 95% interval (Student's t over responses); None: a single response has none."
    )
    exact: float = Field(description="Difference of the shares of responses reproduced.")
    exact_ci95: Interval = Field(description="Its 95% interval (Newcombe, paired).")
    exact_p: float = Field(description="Exact two-sided McNemar p-value of no difference in `exact`.")
    n: int = Field(description="Responses.")


class Packing(Excerpt):
    """How the training records were packed (packing.json)."""

    records: int = Field(description="Training records.")
    sequences: int = Field(description="Sequences they were packed into.")
    efficiency: float = Field(description="Share of the sequences' tokens that are the records', 0 to 1.")
    passes: float = Field(description="Times that every sequence was read.")


class Generated(Excerpt):
    """What the teacher's answers gave (generate.json); counts."""

    prompts: int = Field(description="Prompts asked.")
    unusable_prompts: dict[str, int] = Field(description="Prompts left out, by reason.")
    answers: int = Field(description="Answers given.")
    kept: int = Field(description="Answers that became records.")
    rejected: dict[str, int] = Field(description="Answers rejected, by reason.")
    seconds: float | None = Field(default=None, description="Seconds of the last attempt.")
    tokens: int | None = Field(default=None, description="Tokens generated in the last attempt.")


class Responses(Config):
    """Everything on the records of a recipe."""

    packing: Packing | None = Field(description="None: no student was fine-tuned.")
    generated: Generated | None = Field(description="None: no answers were generated.")
    rows: tuple[ResponseScores, ...]
    pairs: tuple[ResponsePair, ...]
