"""How the students learned: curves, evaluations during training, the weights kept, and the gain from more tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config
from conf.report.base import Estimate, Excerpt
from conf.stages.early_stopping import BestBy

FitMetric = Literal["val_kl", "val_divergence", "val_loss"]


class Curve(Config):
    """Validations by step; if a resumed job repeated a step, its last value counts."""

    step: tuple[float, ...] = Field(description="Training step of each validation.")
    val_loss: tuple[float, ...] = Field(default=(), description="Loss on the validation split, nats per token.")
    val_kl: tuple[float, ...] = Field(
        default=(), description="KL(teacher || student) on the validation split, nats per token; empty: not measured."
    )


class Evaluations(Config):
    """Evaluations of the student during training; the lists are parallel, and empty if there were none."""

    tokens: tuple[int, ...] = Field(default=(), description="Tokens seen before each evaluation.")
    mmlu: tuple[float, ...] = Field(default=(), description="Share of the multiple-choice questions answered right.")
    mmlu_low: tuple[float, ...] = Field(default=(), description="Lower bound of its 95% interval.")
    mmlu_high: tuple[float, ...] = Field(default=(), description="Upper bound of its 95% interval.")
    mmlu_n: tuple[float, ...] = Field(default=(), description="Questions asked.")
    benchmarks: dict[str, tuple[float, ...]] = Field(
        default={}, description="Share of the questions of each benchmark answered right, by name."
    )
    benchmark_n: dict[str, int] = Field(default={}, description="Questions asked of each benchmark.")
    test_kl: tuple[float, ...] = Field(
        default=(), description="KL(teacher || student) on test sequences, nats per token."
    )


class KeptWeights(Excerpt):
    """The weights that became the student (kept.json of a distillation)."""

    keep: Literal["last", "best"] = Field(description="Weights after the last step, or the best ones seen.")
    step: int = Field(description="Step of the weights kept.")
    trained: int = Field(description="Steps trained.")
    steps: int = Field(description="Steps planned.")
    stopped: str | None = Field(description="Why training stopped before `steps`; null: it did not.")
    best_by: BestBy = Field(description="Metric by which weights are compared.")
    best_step: int | None = Field(default=None, description="Step at which that metric was best.")
    best: float | None = Field(description="Best value of that metric: nats per token, or a share for scores.")
    tokens: int = Field(description="Tokens that the kept weights were trained on.")


class AveragedWeights(Excerpt):
    """The average of the last weights (average.json of a training)."""

    kind: Literal["ema", "mean"] = Field(description="Exponential moving average, or mean of the last weights.")
    decay: float | None = Field(default=None, description="ema: share that a step keeps; null: 0.999.")
    last: int | None = Field(default=None, description="mean: number of weights.")
    every: int | None = Field(default=None, description="mean: steps between them; null: 1.")
    exported: bool = Field(description="Whether the average became the model.")
    losses: dict[str, float] = Field(
        description="Its losses at the last validation, nats per token: average_val_loss and so on."
    )


class DraftHeads(Excerpt):
    """Heads for multi-token prediction taught beside a model (mtp.json of a training)."""

    heads: int = Field(description="Heads.")
    seq_length: int = Field(description="Tokens per sequence of the validation.")
    parameters: int = Field(description="Their parameters, which are no part of the model's.")
    detach: bool = Field(description="Whether the model did not learn from them.")
    validation: dict[str, float] = Field(
        description=(
            "At the last validation: val_mtp_loss in nats per token, val_mtp_accepted as a share of val_mtp_drafts"
            " drafts; those of later heads end in their number."
        )
    )


class LawCurve(Config):
    """The fitted law up to twice the tokens; losses in nats per token."""

    tokens: tuple[float, ...] = Field(description="Tokens trained on.")
    loss: tuple[float, ...] = Field(description="Loss predicted by the law.")
    low: tuple[float, ...] = Field(description="Lower bound of its 95% interval.")
    high: tuple[float, ...] = Field(description="Upper bound of its 95% interval.")


class FittedLaw(Config):
    """L(t) = floor + scale x (t / last)^-alpha, fitted to the validations after warm-up; `last` is the token count of
    the last one. Losses in nats per token."""

    undetermined: None = Field(default=None, description="Always null: the law is determined.")
    points: int = Field(description="Number of validations in the fit.")
    curve: LawCurve
    floor: float = Field(description="Loss in the limit of infinitely many tokens.")
    scale: float = Field(description="Loss above the floor at the last validation.")
    alpha: float = Field(description="Exponent, dimensionless.")
    gain: Estimate = Field(description="Predicted drop of the loss with twice the tokens, with its 95% interval.")
    doubled: Estimate = Field(description="Predicted loss at twice the tokens, with its 95% interval.")


class NoLaw(Config):
    """Why no law was fitted."""

    undetermined: str = Field(description="Why the curve does not determine a law.")


class Backtest(Config):
    """A check of the law: the end of the curve as predicted from its first half, and as measured. Nats per token."""

    predicted: Estimate = Field(
        description="Loss at the last validation, predicted from the first half, with its 95% interval."
    )
    measured: float = Field(description="Loss measured at the last validation.")


class Learning(Config):
    """One distillation. Lists hold one value per validation."""

    tokens: tuple[int, ...] = Field(description="Tokens seen before each validation.")
    val_loss: tuple[float, ...] = Field(description="Loss on the validation split, nats per token.")
    val_kl: tuple[float, ...] = Field(
        description=(
            "KL(teacher || student) on that split; in offline distillation, divergence from the stored logits. Nats per"
            " token; empty: not measured."
        )
    )
    fitted: FitMetric = Field(description="Metric to which the law is fitted.")
    evaluated: Evaluations
    kept: KeptWeights | None = Field(description="The weights kept; null: the job did not record it.")
    average: AveragedWeights | None = Field(default=None, description="null: the weights were not averaged.")
    heads: DraftHeads | None = Field(default=None, description="null: no heads were taught beside it.")
    law: FittedLaw | NoLaw
    backtest: Backtest | None = Field(description="null: the first half of the curve determines no law.")
