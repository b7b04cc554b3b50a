"""The head of a model whose logits are made a group of tokens at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from jobs.megatron import capping


@dataclass(frozen=True, kw_only=True)
class Head:
    """Hidden states [tokens, hidden], this rank's rows of the output weights [slice, hidden], and what the logits are
    capped at, if they are."""

    hidden: torch.Tensor
    weight: torch.Tensor
    cap: float | None = None

    def logits(self, tokens: slice) -> torch.Tensor:
        """Logits [tokens, slice] before the cap."""
        return self.hidden[tokens] @ self.weight.t()

    def capped(self, logits: torch.Tensor) -> torch.Tensor:
        """A chunk of such logits in fp32; capped ones are a copy."""
        return logits.float() if self.cap is None else capping.cap_(logits.to(torch.float32, copy=True), self.cap)
