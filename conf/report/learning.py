"""How the students learned: curves, evaluations on the way, the weights kept, and what more tokens would bring."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config
from conf.report.base import Estimate, Excerpt
from conf.stages.early_stopping import BestBy


class Curve(Config):
    """Validations over steps; where a resumed job repeated a step, the later one counts."""

    step: tuple[float, ...] = Field(description="Steps of training done at each validation.")
    val_loss: tuple[float, ...] = Field(default=(), description="Loss on the validation split, nats per token.")
    val_kl: tuple[float, ...] = Field(
        default=(), description="KL(teacher || student) on the validation split, nats per token; empty: not measured."
    )


class Evaluations(Config):
    """Evaluations of the student on the way, each at one place of all lists; empty: there were none."""

    tokens: tuple[int, ...] = Field(default=(), description="Tokens learned from until then.")
    mmlu: tuple[float, ...] = Field(default=(), description="Share of the multiple-choice questions answered right.")
    mmlu_low: tuple[float, ...] = Field(default=(), description="Lower end of its 95% interval.")
    mmlu_high: tuple[float, ...] = Field(default=(), description="Upper end of its 95% interval.")
    mmlu_n: tuple[float, ...] = Field(default=(), description="Questions asked.")
    test_kl: tuple[float, ...] = Field(
        default=(), description="KL(teacher || student) on test sequences, nats per token."
    )


class KeptWeights(Excerpt):
    """Which weights became the student (kept.json of a distillation)."""

    keep: Literal["last", "best"] = Field(description="Those after the last step, or the best ones seen.")
    step: int = Field(description="Step of the weights kept.")
    trained: int = Field(description="Steps done.")
    steps: int = Field(description="Steps planned.")
    stopped: str | None = Field(description="Why it stopped before `steps`; None: it did not.")
    best_by: BestBy = Field(description="Metric that decides what best means.")
    best_step: int | None = Field(default=None, description="Step at which that metric was best.")
    best: float | None = Field(description="Its best value: nats per token, or a share for mmlu.")
    tokens: int = Field(description="Tokens that the weights kept had learned from.")


class LawCurve(Config):
    """The fitted law, drawn as far as twice the tokens; losses in nats per token."""

    tokens: tuple[float, ...] = Field(description="Tokens learned from.")
    loss: tuple[float, ...] = Field(description="Loss by the law.")
    low: tuple[float, ...] = Field(description="Lower end of its 95% interval.")
    high: tuple[float, ...] = Field(description="Upper end of its 95% interval.")


class FittedLaw(Config):
    """L(t) = floor + scale x (t / last)^-alpha, fitted to the validations after the warm-up; `last` are the tokens of
    the last one. In nats per token."""

    undetermined: None = Field(default=None, description="Always null: the law is determined.")
    points: int = Field(description="Validations it is fitted to.")
    curve: LawCurve
    floor: float = Field(description="Loss that no number of tokens would get below.")
    scale: float = Field(description="What is above the floor at the last validation.")
    alpha: float = Field(description="Exponent, without unit.")
    gain: Estimate = Field(description="How much twice the tokens would lower the loss, with its 95% interval.")
    doubled: Estimate = Field(description="Loss at twice the tokens, with its 95% interval.")


class NoLaw(Config):
    """Why no law is told."""

    undetermined: str = Field(description="Why the curve does not determine one.")


class Backtest(Config):
    """A check of the law: the end of the curve as its first half predicts it, and as it was. In nats per token."""

    predicted: Estimate = Field(
        description="Loss at the last validation by the law of the first half, with its interval."
    )
    measured: float = Field(description="Loss measured there.")


class Learning(Config):
    """One distillation. Lists hold a value for each validation."""

    tokens: tuple[int, ...] = Field(description="Tokens learned from until each validation.")
    val_loss: tuple[float, ...] = Field(description="Loss on the validation split, nats per token.")
    val_kl: tuple[float, ...] = Field(
        description=(
            "KL(teacher || student) there, offline the divergence from the stored logits, nats per token; empty: not"
            " measured."
        )
    )
    fitted: Literal["val_kl", "val_divergence", "val_loss"] = Field(description="Metric that the law is fitted to.")
    evaluated: Evaluations
    kept: KeptWeights | None = Field(description="Which weights were kept; None: the job did not say.")
    law: FittedLaw | NoLaw
    backtest: Backtest | None = Field(description="None: half of the curve determines no law.")
