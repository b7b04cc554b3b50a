"""What a training minimises, and the plain case: cross-entropy on the tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel

from conf.stages.mtp import Mtp
from jobs.megatron import fused_loss as head
from jobs.megatron import mtp as draft
from jobs.megatron.batches import Batch
from jobs.megatron.fused_loss import Losses


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is minimised. `losses(model, hidden, batch)` turns the last hidden states [micro_batch, seq_length, hidden]
    of a model with a deferred head into named scalars, sums weighted by `batch.weights`; `total` names the one to
    minimise."""

    losses: Callable[[Any, torch.Tensor, Batch], Losses]
    total: str = "objective"
    adjust_shapes: Callable[..., Any] | None = None


def language_model(z: float = 0.0, mtp: Mtp | None = None) -> Objective:
    """Plain language-model training: cross-entropy in nats per token; with weight `z` the z-loss; and the losses of the
    heads of `mtp`."""

    def losses(model: GPTModel, hidden: torch.Tensor, batch: Batch) -> Losses:
        weights = head.LossWeights(divergence=0, cross_entropy=1, z=z)
        found = head.losses(head.head(model, hidden), batch.labels.flatten(), batch.weights.flatten(), weights)
        found = found if z else {"loss": found["objective"]}
        if mtp is None:
            return found
        heads = draft.losses(model, hidden, batch, draft.Taught(mtp=mtp, weights=replace(weights, z=0)))
        return found | heads | {"objective": found["objective" if z else "loss"] + heads["objective"]}

    return Objective(losses=losses, total="objective" if z or mtp else "loss")
