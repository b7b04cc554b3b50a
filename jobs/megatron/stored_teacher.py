"""Stored logits instead of a running teacher: the values distillation needs for a batch, on this rank's slice of the
vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state

from conf.stages.distill import DistillConfig
from jobs.megatron.batches import Batch
from jobs.megatron.distillation import TeacherSignal
from jobs.megatron.divergence import TopKLogits
from jobs.tokens.logit_store import LogitStore


class StoredTeacher:
    """Looks up a batch's tokens by address, in the validation split's store while the model is in evaluation mode."""

    def __init__(self, folder: Path, config: DistillConfig) -> None:
        self.stores = {True: LogitStore(folder, "train"), False: LogitStore(folder, "validation")}
        stored = self.stores[True].top_k
        assert config.top_k is not None, "offline distillation compares the top K"
        if config.top_k > stored:
            raise ValueError(
                f"distill.top_k is {config.top_k} but only {stored} logits per token are stored; choose at most"
                f" {stored}"
            )
        self.top_k = config.top_k

    def __call__(self, model: Any, batch: Batch) -> TeacherSignal:
        """The stored rows of a batch's tokens, and the teacher's loss on its labels."""
        store, device = self.stores[model.training], batch.tokens.device
        rows = store.rows(batch.addresses.flatten().cpu().numpy())
        ids, logits = torch.from_numpy(rows.ids).to(device), torch.from_numpy(rows.logits).to(device).float()
        rest, loss = torch.from_numpy(rows.rest).to(device), torch.from_numpy(rows.loss).to(device).float()
        dropped = logits.softmax(-1)[:, self.top_k :].sum(-1) * (1 - rest)
        rest = (rest + dropped).clamp(min=1e-30, max=1 - 1e-6).log()[:, None]
        ids, logits = ids[:, : self.top_k], logits[:, : self.top_k]
        size = store.vocab_size // parallel_state.get_tensor_model_parallel_world_size()
        indices = ids - parallel_state.get_tensor_model_parallel_rank() * size
        inside = (indices >= 0) & (indices < size)
        indices = indices.clamp(0, size - 1)

        def stored_slice(token_slice: slice) -> TopKLogits:
            return TopKLogits(
                indices=indices[token_slice],
                inside=inside[token_slice],
                logits=logits[token_slice],
                rest=rest[token_slice],
            )

        return TeacherSignal(teacher=stored_slice, loss=(loss * batch.weights.flatten()).sum())
