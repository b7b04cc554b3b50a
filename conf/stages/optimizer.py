"""What steps the weights: AdamW for all of them, or Muon for the matrices inside layers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Later
from conf.parallel import Parallel

MOMENTUM, ITERATIONS = 0.95, 5


class Optimizer(Config):
    """The optimizer of a training; its learning rate, weight decay and Adam's betas stand beside it."""

    name: Literal["adamw", "muon"] = Field(
        default="adamw",
        description=(
            "adamw: for all weights; muon: momentum made orthogonal for the matrices inside layers, AdamW for"
            " embeddings, output, norms and biases. Muon's steps are scaled to the size of AdamW's."
        ),
    )
    momentum: float | None = Field(
        default=None, ge=0, lt=1, description="muon: decay of the momentum of the matrices; empty: 0.95."
    )
    iterations: int | None = Field(
        default=None, ge=1, le=20, description="muon: Newton-Schulz iterations of a step; empty: 5."
    )
    per_head: bool | None = Field(
        default=None,
        description="muon: every head's query, key and value is a matrix of its own; empty or false: all heads' are.",
    )
    adamw_lr_scale: Annotated[float, Later()] = Field(
        default=1.0,
        gt=0,
        description="muon: rate of what AdamW steps (embeddings, output, norms, biases), a multiple of lr and min_lr.",
    )
    embedding_weight_decay: float | None = Field(
        default=None,
        ge=0,
        description="Weight decay of the token embeddings, and of the output where it is tied; empty: weight_decay.",
    )

    qk_clip: Annotated[float | None, Later()] = Field(
        default=None,
        gt=0,
        description=(
            "Bound on attention logits (MuonClip's; Kimi K2: 100): after a step, query and key weights of heads whose"
            " largest logit passed it are scaled down; empty: none."
        ),
    )

    @model_validator(mode="after")
    def _of_its_name(self) -> Self:
        if self.name == "muon":
            return self
        for name in ("momentum", "iterations", "per_head", "adamw_lr_scale"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"optimizer.{name} is {getattr(self, name)} but optimizer.name is {self.name}, which has no {name};"
                    " choose muon or remove it"
                )
        return self

    @property
    def muon_momentum(self) -> float:
        """The momentum of Muon."""
        return MOMENTUM if self.momentum is None else self.momentum

    @property
    def muon_iterations(self) -> int:
        """The iterations of Muon."""
        return self.iterations or ITERATIONS


def check_bounded(optimizer: Optimizer, parallel: Parallel) -> None:
    """Raise ValueError for a layout in which no rank has the logits or the weights that `qk_clip` needs."""
    for name, value, only in (
        ("context", parallel.context, 1),
        ("distributed_optimizer", parallel.distributed_optimizer, False),
    ):
        if optimizer.qk_clip and value != only:
            raise ValueError(
                f"parallel.{name} is {str(value).lower()} but optimizer.qk_clip needs whole sequences and weights;"
                f" choose {str(only).lower()} or remove qk_clip"
            )
